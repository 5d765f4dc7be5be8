package ledger

import (
	"strconv"
	"strings"
)

// Parse reads a decimal amount ("12", "-0.5", "1234.567890") as micro-units; false for another form or more than six decimals.
func Parse(text string) (int64, bool) {
	sign, digits := int64(1), text
	if rest, neg := strings.CutPrefix(text, "-"); neg {
		sign, digits = -1, rest
	}
	whole, frac, dot := strings.Cut(digits, ".")
	if whole == "" || dot && frac == "" || len(frac) > 6 || strings.Trim(whole+frac, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(whole+(frac + "000000")[:6], 10, 64)
	return sign * n, err == nil
}
