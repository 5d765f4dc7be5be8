package ledger

import "time"

// Window is how long a budget's limit holds before it begins anew.
type Window string

// The windows. Days begin at midnight, weeks on Monday, months on the first, all in the tenant's time zone. Total never ends.
const (
	Day   Window = "day"
	Week  Window = "week"
	Month Window = "month"
	Total Window = "total"
)

// Windows lists all of them.
var Windows = []Window{Day, Week, Month, Total}

// Period is the window that holds the moment at, seen in zone: from start to end, without end. Both are zero for Total. Where a clock change leaves no midnight, the period begins with the first moment of the
// day; neighbouring periods always touch.
func (w Window) Period(at time.Time, zone *time.Location) (start, end time.Time) {
	y, m, d := at.In(zone).Date()
	switch w {
	case Day:
		return dayStart(y, m, d, zone), dayStart(y, m, d+1, zone)
	case Week:
		d -= (int(at.In(zone).Weekday()) + 6) % 7
		return dayStart(y, m, d, zone), dayStart(y, m, d+7, zone)
	case Month:
		return dayStart(y, m, 1, zone), dayStart(y, m+1, 1, zone)
	case Total:
	}
	return time.Time{}, time.Time{}
}

// dayStart is the first moment of a day. time.Date gives some moment around a gap; the true one is found by stepping to the day's border.
func dayStart(y int, m time.Month, d int, zone *time.Location) time.Time {
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	day := time.Date(y, m, d, 12, 0, 0, 0, zone)
	if t.Day() != day.Day() { // the gap swallowed midnight and t lies before it
		_, end := t.ZoneBounds()
		t = end
	}
	return t.UTC()
}

// MonthOf is the month named like "2026-11" in zone; false if the text is no month.
func MonthOf(text string, zone *time.Location) (start, end time.Time, ok bool) {
	t, err := time.ParseInLocation("2006-01", text, zone)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, time.Time{}, false
	}
	start, end = Month.Period(t.Add(36*time.Hour), zone)
	return start, end, true
}
