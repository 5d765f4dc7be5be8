package ledger

import "math"

// Outlook is how a month is expected to end, with the range that holds in about nine of ten months.
type Outlook struct{ Spent, Forecast, Low, High int64 }

// Forecast continues a month: days are the amounts of the whole days before today, oldest first, the last of them yesterday; month is how many of the last ones lie in this month; weekday is that of the oldest
// (0 = Sunday); today is what today cost so far and part the share of today that is over (0 to 1); left is the number of days after today. Days of the same weekday are averaged, with the general mean counting
// as one more such day, so that a few weeks shape the week and no single day does. Amounts are not negative.
func Forecast(days []int64, month, weekday int, today int64, part float64, left int) Outlook {
	var o Outlook
	o.Spent = today
	for _, d := range days[len(days)-min(month, len(days)):] {
		o.Spent += d
	}
	mean, by := means(days, weekday)
	if len(days) == 0 { // the first day: today goes on as it began
		if part > 0.05 {
			mean = float64(today) / part
		}
		for i := range by {
			by[i] = mean
		}
	}
	var rest, variance float64
	sigma := spread(days, weekday, by)
	at := (weekday + len(days)) % 7
	for i := range left + 1 {
		w := 1.0
		if i == 0 {
			w = max(1-part, 0)
		}
		rest += w * by[(at+i)%7]
		variance += w * sigma * sigma
	}
	const z = 1.645 // 5 % on either side
	band := z * math.Sqrt(variance)
	if len(days) < 3 { // too little to know how much days differ
		band = max(band, rest/2)
	}
	o.Forecast, o.Low, o.High = whole(o.Spent, rest), whole(o.Spent, max(rest-band, 0)), whole(o.Spent, rest+band)
	return o
}

func whole(spent int64, more float64) int64 {
	if f := float64(spent) + more; f >= math.MaxInt64 {
		return math.MaxInt64
	}
	return spent + int64(math.Round(more))
}

// means are the average of all days and that of each weekday.
func means(days []int64, weekday int) (mean float64, by [7]float64) {
	var sum [7]float64
	var n [7]float64
	for i, d := range days {
		w := (weekday + i) % 7
		sum[w] += float64(d)
		n[w]++
		mean += float64(d)
	}
	if len(days) > 0 {
		mean /= float64(len(days))
	}
	for w := range by {
		by[w] = (sum[w] + mean) / (n[w] + 1)
	}
	return mean, by
}

// spread is how far days lie from the average of their weekday.
func spread(days []int64, weekday int, by [7]float64) float64 {
	if len(days) < 2 {
		return 0
	}
	var s float64
	for i, d := range days {
		e := float64(d) - by[(weekday+i)%7]
		s += e * e
	}
	return math.Sqrt(s / float64(len(days)-1))
}
