package ledger

// Steps are the shares of a budget, in percent, at which its people are told.
var Steps = []int64{50, 80, 100}

// Reached is the highest of Steps that used has reached of limit; 0 below the first.
func Reached(used, limit int64) int64 {
	var step int64
	for _, s := range Steps {
		if limit <= 0 || times128(used, 100, limit, s) {
			step = s
		}
	}
	return step
}

// times128 reports a*b >= c*d for amounts that are not negative, without overflow.
func times128(a, b, c, d int64) bool {
	if a < 0 {
		return false
	}
	ah, al := mul(a, b)
	ch, cl := mul(c, d)
	return ah > ch || ah == ch && al >= cl
}

// Block is how much of what is left a node gets in advance: what it wants, but no more than its share among the nodes with a reserve for as many again three times over, and never less than it needs at once.
// 0 = refused: less is left than needed.
func Block(left, need, want int64, nodes int) int64 {
	need = max(need, 1)
	if left < need {
		return 0
	}
	share := left / (4 * int64(max(nodes, 1)))
	return max(need, min(max(want, need), share))
}
