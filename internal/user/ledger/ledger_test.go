package ledger

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"
)

func TestEntriesAddUpToZero(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind   JournalKind
		amount int64
		wallet int64
		to     AccountKind
	}{{Usage, 5, -5, Revenue}, {TopUp, 7, 7, Cash}, {Refund, 2, 2, Revenue}, {Payout, 3, -3, Cash}, {Adjust, -4, -4, Writeoff}, {Adjust, 4, 4, Writeoff}} {
		e, ok := Entries(c.kind, c.amount)
		require.True(t, ok, c.kind)
		require.Equal(t, [2]Entry{{Wallet, c.wallet}, {c.to, -c.wallet}}, e)
	}
	for kind, amount := range map[JournalKind]int64{Usage: -1, TopUp: 0, Refund: -2, Adjust: math.MinInt64, "none": 1} {
		_, ok := Entries(kind, amount)
		require.False(t, ok, "%s %d", kind, amount)
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b int64
		ok   bool
	}{{1, 2, true}, {math.MaxInt64, 1, false}, {math.MinInt64, -1, false}, {math.MaxInt64, math.MinInt64, true}, {5, 0, true}, {-5, -6, true}} {
		s, ok := Add(c.a, c.b)
		require.Equal(t, c.ok, ok, "%d + %d", c.a, c.b)
		if ok {
			require.Equal(t, c.a+c.b, s)
		}
	}
}

// The lines of a statement add up to its total, and the total is the whole part of the exact sum.
func TestSplit(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		parts := make([]Part, r.IntN(20))
		exact := new(big.Int)
		for i := range parts {
			parts[i] = Part{r.Int64N(1_000_000), r.Int64N(50_000_000)}
			exact.Add(exact, big.NewInt(parts[i].Micro*PicoPerMicro+parts[i].Pico))
		}
		micro, total, ok := Split(parts)
		require.True(t, ok)
		var sum int64
		for i, m := range micro {
			sum += m
			own := parts[i].Micro + parts[i].Pico/PicoPerMicro
			require.True(t, m == own || m == own+1, "a line is off by less than a micro-unit")
		}
		require.Equal(t, sum, total)
		require.Equal(t, new(big.Int).Quo(exact, big.NewInt(PicoPerMicro)).Int64(), total)
	}
	_, _, ok := Split([]Part{{math.MaxInt64, PicoPerMicro}})
	require.False(t, ok)
	_, _, ok = Split([]Part{{1, -1}})
	require.False(t, ok)
}

func TestTax(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]int64{{0, 1900, 0}, {100, 1900, 19}, {1, 5000, 1}, {1, 4999, 0}, {-5, 1900, 0}, {12_345_678, 600, 740_741}, {math.MaxInt64 / 4, 10_000, math.MaxInt64 / 4}} {
		require.Equal(t, c[2], Tax(c[0], c[1]), "%v", c)
	}
}

func TestReached(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]int64{{0, 100, 0}, {49, 100, 0}, {50, 100, 50}, {79, 100, 50}, {80, 100, 80}, {99, 100, 80}, {100, 100, 100}, {1 << 62, 1 << 62, 100}, {1 << 62, math.MaxInt64, 50}, {0, 0, 100}, {1, 3, 0}, {2, 3, 50}} {
		require.Equal(t, c[2], Reached(c[0], c[1]), "%v", c)
	}
}

// However nodes ask, what is granted never passes what is left, and whoever needs what is there gets it.
func TestBlock(t *testing.T) {
	t.Parallel()
	for _, c := range [][5]int64{{1000, 10, 10_000, 1, 250}, {1000, 600, 600, 1, 600}, {1000, 10, 20, 1, 20}, {1000, 10, 10_000, 5, 50}, {9, 10, 10, 1, 0}, {10, 10, 10, 3, 10}, {-5, 0, 0, 1, 0}, {5, 0, 0, 0, 1}} {
		require.Equal(t, c[4], Block(c[0], c[1], c[2], int(c[3])), "%v", c)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		left := r.Int64N(100_000)
		for range 200 {
			need := r.Int64N(1000)
			n := Block(left, need, need+r.Int64N(5000), 1+r.IntN(8))
			require.LessOrEqual(t, n, left)
			if n == 0 {
				require.Less(t, left, max(need, 1))
				break
			}
			require.GreaterOrEqual(t, n, need)
			left -= n
		}
	}
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	require.NoError(t, err)
	return l
}

func TestPeriod(t *testing.T) {
	t.Parallel()
	at := func(zone *time.Location, text string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
		require.NoError(t, err)
		return v
	}
	shanghai, santiago := zone(t, "Asia/Shanghai"), zone(t, "America/Santiago")
	for _, c := range []struct {
		w              Window
		zone           *time.Location
		at, start, end string
	}{
		{Day, shanghai, "2026-11-25 00:00", "2026-11-25 00:00", "2026-11-26 00:00"},
		{Day, shanghai, "2026-11-25 23:59", "2026-11-25 00:00", "2026-11-26 00:00"},
		{Week, shanghai, "2026-11-29 12:00", "2026-11-23 00:00", "2026-11-30 00:00"}, // a Sunday
		{Week, shanghai, "2026-11-23 00:00", "2026-11-23 00:00", "2026-11-30 00:00"}, // a Monday
		{Month, shanghai, "2026-12-31 23:59", "2026-12-01 00:00", "2027-01-01 00:00"},
		{Month, time.UTC, "2024-02-29 10:00", "2024-02-01 00:00", "2024-03-01 00:00"},
		{Day, santiago, "2024-09-08 12:00", "2024-09-08 01:00", "2024-09-09 00:00"}, // clocks went from 24:00 to 01:00
		{Day, santiago, "2024-09-07 12:00", "2024-09-07 00:00", "2024-09-08 01:00"},
	} {
		start, end := c.w.Period(at(c.zone, c.at), c.zone)
		require.Equal(t, at(c.zone, c.start).UTC(), start, "%s %s", c.w, c.at)
		require.Equal(t, at(c.zone, c.end).UTC(), end, "%s %s", c.w, c.at)
	}
	start, end := Total.Period(time.Now(), shanghai)
	require.True(t, start.IsZero() && end.IsZero())
}

// Every moment lies in its period, and the next period begins where it ends: in zones with gaps and overlaps at midnight too.
func TestPeriodsTouch(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	for _, name := range []string{"UTC", "Asia/Shanghai", "Europe/Berlin", "America/Santiago", "Asia/Beirut", "America/Havana", "Pacific/Apia", "Australia/Lord_Howe", "America/Asuncion"} {
		l := zone(t, name)
		for range 500 {
			m := time.Unix(1_300_000_000+r.Int64N(600_000_000), r.Int64N(1e9))
			for _, w := range []Window{Day, Week, Month} {
				start, end := w.Period(m, l)
				require.False(t, m.Before(start), "%s %s %s", name, w, m)
				require.True(t, m.Before(end), "%s %s %s", name, w, m)
				again, _ := w.Period(start, l)
				require.Equal(t, start, again, "%s %s %s", name, w, m)
				next, _ := w.Period(end, l)
				require.Equal(t, end, next, "%s %s %s", name, w, m)
				before, until := w.Period(start.Add(-time.Microsecond), l)
				require.Equal(t, start, until, "%s %s %s", name, w, m)
				require.True(t, before.Before(start))
			}
		}
	}
}

func TestMonthOf(t *testing.T) {
	t.Parallel()
	l := zone(t, "Asia/Shanghai")
	start, end, ok := MonthOf("2026-11", l)
	require.True(t, ok)
	require.Equal(t, time.Date(2026, 10, 31, 16, 0, 0, 0, time.UTC), start)
	require.Equal(t, time.Date(2026, 11, 30, 16, 0, 0, 0, time.UTC), end)
	for _, bad := range []string{"", "2026", "2026-13", "2026-1", "1969-12", "2026-11-01"} {
		_, _, ok := MonthOf(bad, l)
		require.False(t, ok, bad)
	}
}

func TestForecast(t *testing.T) {
	t.Parallel()
	// every day the same: the month is that day thirty times, and no doubt about it
	days := make([]int64, 24)
	for i := range days {
		days[i] = 100
	}
	o := Forecast(days, 24, 0, 50, 0.5, 5)
	require.Equal(t, Outlook{Spent: 2450, Forecast: 3000, Low: 3000, High: 3000}, o)
	// idle weekends stay idle
	week := []int64{0, 100, 100, 100, 100, 100, 0}
	var weeks []int64
	for range 8 {
		weeks = append(weeks, week...)
	}
	o = Forecast(weeks, 14, 0, 0, 0, 6) // a whole week left, from Sunday
	require.EqualValues(t, 1000, o.Spent)
	require.InDelta(t, 1500, o.Forecast, 40)
	require.Less(t, o.Low, o.Forecast)
	require.Greater(t, o.High, o.Forecast)
	// nothing was spent, nothing is expected
	require.Zero(t, Forecast(nil, 0, 3, 0, 0.9, 20))
	// the first day goes on as it began, with a wide range
	o = Forecast(nil, 0, 3, 30, 0.5, 9)
	require.EqualValues(t, 30+30+9*60, o.Forecast)
	require.Less(t, o.Low, o.Forecast*2/3)
	require.Greater(t, o.High, o.Forecast*4/3)
	// amounts without end do not wrap
	o = Forecast([]int64{math.MaxInt64 / 2}, 1, 0, 0, 0.5, 30)
	require.EqualValues(t, math.MaxInt64, o.Forecast)
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "12": 12_000_000, "-0.5": -500_000, "1234.567890": 1_234_567_890, "0.000001": 1, "9223372036854.775807": math.MaxInt64} {
		n, ok := Parse(text)
		require.True(t, ok, text)
		require.Equal(t, want, n, text)
	}
	for _, bad := range []string{"", "-", ".", "1.", ".5", "1.2345678", "1e3", "1,5", "+1", "--1", "1 ", "9223372036854.775808", "0x1"} {
		_, ok := Parse(bad)
		require.False(t, ok, bad)
	}
}
