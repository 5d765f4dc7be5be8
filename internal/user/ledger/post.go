package ledger

import "math"

// AccountKind says what an account stands for. A tenant has one of each; money flows between them, so the sum of all is always zero.
type AccountKind string

// The kinds. Wallet is what the tenant has (negative: what it owes); the others are the installation's side of it.
const (
	Wallet   AccountKind = "wallet"
	Revenue  AccountKind = "revenue"  // what calls brought in
	Cash     AccountKind = "cash"     // what was paid in and out, seen from outside: a top-up makes it negative
	Writeoff AccountKind = "writeoff" // the other side of corrections
)

// JournalKind is the reason of a posting.
type JournalKind string

// The reasons.
const (
	Usage  JournalKind = "usage"  // calls of one batch
	TopUp  JournalKind = "topup"  // paid in
	Refund JournalKind = "refund" // a charge given back to the wallet
	Payout JournalKind = "payout" // money paid out of the wallet
	Adjust JournalKind = "adjust" // a correction, up or down
)

// other is the account on the other side of the wallet.
var other = map[JournalKind]AccountKind{Usage: Revenue, TopUp: Cash, Refund: Revenue, Payout: Cash, Adjust: Writeoff}

// Entry changes one account. Amounts are micro-units.
type Entry struct {
	Account AccountKind
	Amount  int64
}

// Entries returns the two entries of a posting: amount is what it is about, positive but for Adjust, which may take away. False if the amount does not fit the kind.
func Entries(kind JournalKind, amount int64) ([2]Entry, bool) {
	to, known := other[kind]
	if !known || amount == 0 || amount == math.MinInt64 || amount < 0 && kind != Adjust {
		return [2]Entry{}, false
	}
	wallet := amount
	if kind == Usage || kind == Payout {
		wallet = -amount
	}
	return [2]Entry{{Wallet, wallet}, {to, -wallet}}, true
}

// Add adds two amounts; false if the sum does not fit.
func Add(a, b int64) (int64, bool) {
	s := a + b
	return s, (s > a) == (b > 0)
}

// Part is an amount in two: whole micro-units, and pico-units beside them (any number, not negative). Sums over many calls are kept so, because their pico-units alone may not fit.
type Part struct{ Micro, Pico int64 }

// Split gives each part its whole micro-units, so that they add up to the whole part of the sum: each gets the growth of the running total. The rest below one micro-unit is left.
func Split(parts []Part) (micro []int64, total int64, ok bool) {
	micro = make([]int64, len(parts))
	var rest int64
	for i, p := range parts {
		m, left, ok := Carry(rest, p.Pico)
		if !ok {
			return nil, 0, false
		}
		if micro[i], ok = Add(p.Micro, m); !ok {
			return nil, 0, false
		}
		if total, ok = Add(total, micro[i]); !ok {
			return nil, 0, false
		}
		rest = left
	}
	return micro, total, true
}

// Tax is a share of an amount in hundredths of a percent, rounded half up, towards zero for none.
func Tax(net, basisPoints int64) int64 {
	if net <= 0 || basisPoints <= 0 {
		return 0
	}
	return net/10_000*basisPoints + (net%10_000*basisPoints+5_000)/10_000
}
