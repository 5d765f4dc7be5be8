// Package ledger is the arithmetic of money: what a call costs by a price, how parts of micro-units are carried from one posting to the next, which entries a posting consists of, when a budget's period begins
// and ends, how much of a limit a node gets in advance, and how a month is going to end. It holds no state, reads no clock and knows no table.
//
// Units: accounts are kept in micro-units (one millionth of the currency), calls are priced in pico-units (one millionth of a micro-unit), because a token may cost less than a micro-unit. All are int64; what
// does not fit is refused, never rounded.
package ledger
