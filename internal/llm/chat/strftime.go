package chat

import (
	"fmt"
	"strings"
	"time"
)

// strftime formats a time by the directives of C; an unknown one stays as it is.
func strftime(format string, t time.Time) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		pad := "%02d"
		if format[i] == '-' && i+1 < len(format) {
			i++
			pad = "%d"
		}
		switch c := format[i]; c {
		case 'Y':
			fmt.Fprintf(&b, "%d", t.Year())
		case 'y':
			fmt.Fprintf(&b, pad, t.Year()%100)
		case 'm':
			fmt.Fprintf(&b, pad, int(t.Month()))
		case 'd':
			fmt.Fprintf(&b, pad, t.Day())
		case 'e':
			fmt.Fprintf(&b, "%2d", t.Day())
		case 'H':
			fmt.Fprintf(&b, pad, t.Hour())
		case 'I':
			fmt.Fprintf(&b, pad, (t.Hour()+11)%12+1)
		case 'M':
			fmt.Fprintf(&b, pad, t.Minute())
		case 'S':
			fmt.Fprintf(&b, pad, t.Second())
		case 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		case 'f':
			fmt.Fprintf(&b, "%06d", t.Nanosecond()/1000)
		case 'w':
			fmt.Fprintf(&b, "%d", int(t.Weekday()))
		case 'u':
			fmt.Fprintf(&b, "%d", (int(t.Weekday())+6)%7+1)
		case 's':
			fmt.Fprintf(&b, "%d", t.Unix())
		case '%':
			b.WriteByte('%')
		default:
			if layout, ok := layouts[c]; ok {
				b.WriteString(t.Format(layout))
			} else {
				b.WriteString("%" + string(c))
			}
		}
	}
	return b.String()
}

var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'p': "PM", 'Z': "MST", 'z': "-0700",
	'c': "Mon Jan _2 15:04:05 2006", 'D': "01/02/06", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'x': "01/02/06", 'X': "15:04:05", 'n': "\n", 't': "\t",
}
