package invoice

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"io"
	"sync"
	"time"

	"codeberg.org/go-pdf/fpdf"
)

//go:embed font/cjk.ttf.gz
var packed []byte

var cjkFont = sync.OnceValues(func() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
})

// Sizes in millimetres and points: A4 upright, text in 9 pt.
const (
	margin    = 18.0
	pageWidth = 210.0
	inner     = pageWidth - 2*margin
	row       = 6.0
	body      = 9.0
)

// sheet is a page under the pen.
type sheet struct {
	*fpdf.Fpdf
	d       *Document
	western func(string) string // to the encoding of the built-in fonts
	cjk     bool                // the embedded font is loaded
	bold    bool
	size    float64
}

// PDF writes the document.
func PDF(w io.Writer, d Document) error {
	f := fpdf.New("P", "mm", "A4", "")
	s := &sheet{Fpdf: f, d: &d, western: f.UnicodeTranslatorFromDescriptor("")}
	made := d.Issued
	if made.IsZero() {
		made = time.Unix(0, 0)
	}
	f.SetCreationDate(made.UTC())
	f.SetModificationDate(made.UTC())
	f.SetCatalogSort(true)
	f.SetTitle(d.title()+" "+d.Number, true)
	f.SetMargins(margin, margin, margin)
	f.SetAutoPageBreak(false, 0)
	s.page()
	s.head()
	s.lines()
	s.sums()
	s.account()
	if f.Err() {
		return f.Error()
	}
	return f.Output(w)
}

// page begins a page, with the mark of drafts and void invoices across it.
func (s *sheet) page() {
	s.AddPage()
	mark := ""
	switch {
	case s.d.Void != "":
		mark = s.d.label("void")
	case s.d.Draft:
		mark = s.d.label("draft")
	}
	if mark != "" {
		s.style(true, 80)
		s.SetTextColor(232, 232, 232)
		s.text(margin+20, 170, mark)
		s.SetTextColor(0, 0, 0)
	}
	s.style(false, 8)
	s.SetTextColor(120, 120, 120)
	s.text(margin, 288, s.d.title()+" "+s.d.Number+"  "+s.d.Month)
	s.right(pageWidth-margin, 288, Grouped(int64(s.PageNo())))
	s.SetTextColor(0, 0, 0)
	s.SetY(margin + 4)
	s.style(false, body)
}

// need begins a new page unless so much height is left.
func (s *sheet) need(h float64) {
	if s.GetY()+h > 278 {
		s.page()
	}
}

func (s *sheet) style(bold bool, size float64) {
	s.bold, s.size = bold, size
	weight := ""
	if bold {
		weight = "B"
	}
	s.SetFont("Helvetica", weight, size)
}

// runs cuts a text into pieces of one font each.
func runs(text string) []struct {
	western bool
	text    string
} {
	var out []struct {
		western bool
		text    string
	}
	for _, r := range text {
		switch {
		case r < ' ':
			r = ' '
		case r > 0xffff: // beyond what the fonts of this library can name
			r = '□'
		}
		w := r < 0x100 || r == '€' || r == '–' || r == '—' || r == '’' || r == '“' || r == '”'
		if n := len(out); n == 0 || out[n-1].western != w {
			out = append(out, struct {
				western bool
				text    string
			}{w, ""})
		}
		out[len(out)-1].text += string(r)
	}
	return out
}

// font chooses the font of a run and returns its text in that font's encoding.
func (s *sheet) font(western bool, text string) string {
	if western {
		s.style(s.bold, s.size)
		return s.western(text)
	}
	if !s.cjk {
		b, err := cjkFont()
		if err != nil {
			s.SetError(err)
			return ""
		}
		s.AddUTF8FontFromBytes("cjk", "", b)
		s.cjk = true
	}
	s.SetFont("cjk", "", s.size)
	return text
}

// width of a text in millimetres.
func (s *sheet) width(text string) float64 {
	var w float64
	for _, r := range runs(text) {
		t := s.font(r.western, r.text)
		w += s.GetStringWidth(t)
	}
	return w
}

// text prints at a point, left aligned.
func (s *sheet) text(x, y float64, text string) {
	for _, r := range runs(text) {
		t := s.font(r.western, r.text)
		s.Text(x, y, t)
		x += s.GetStringWidth(t)
	}
}

func (s *sheet) right(x, y float64, text string) { s.text(x-s.width(text), y, text) }

// fit shortens a text to a width.
func (s *sheet) fit(text string, most float64) string {
	if s.width(text) <= most {
		return text
	}
	runes := []rune(text)
	for len(runes) > 1 && s.width(string(runes)+"...") > most {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "..."
}

func (s *sheet) head() {
	d := s.d
	s.style(true, 18)
	s.text(margin, s.GetY()+4, d.title())
	s.style(false, body)
	y := s.GetY() + 16
	left := func(label string, lines []string, x float64) float64 {
		at := y
		s.style(true, body)
		s.text(x, at, d.label(label))
		s.style(false, body)
		for _, l := range lines {
			at += 5
			s.text(x, at, s.fit(l, inner/3-4))
		}
		return at
	}
	low := left("from", d.Seller, margin)
	low = max(low, left("to", d.Customer, margin+inner/3))
	var facts []string
	if d.Number != "" {
		facts = append(facts, d.label("number")+": "+d.Number)
	}
	facts = append(facts, d.label("month")+": "+d.Month+" ("+d.Zone+")")
	if !d.Issued.IsZero() {
		facts = append(facts, d.label("issued")+": "+d.Issued.UTC().Format(time.DateOnly))
	}
	if d.Void != "" {
		facts = append(facts, d.label("void")+": "+d.Void)
	}
	for i, f := range facts {
		at := y + 5*float64(i)
		s.text(margin+2*inner/3, at, s.fit(f, inner/3))
		low = max(low, at)
	}
	s.SetY(low + 10)
}

// columns are the right edges of the numbers, in millimetres from the left margin.
var columns = []struct {
	label string
	edge  float64
}{{"requests", 72}, {"input", 92}, {"cached", 110}, {"output", 128}, {"reasoning", 146}, {"amount", inner}}

func (s *sheet) tableHead() {
	y := s.GetY()
	s.style(true, 8)
	s.text(margin, y, s.d.label("model"))
	for _, c := range columns {
		label := s.d.label(c.label)
		if c.label == "amount" {
			label += " " + s.d.Currency
		}
		s.right(margin+c.edge, y, label)
	}
	s.Line(margin, y+2, pageWidth-margin, y+2)
	s.style(false, 8)
	s.SetY(y + row)
}

func (s *sheet) lines() {
	s.tableHead()
	if len(s.d.Lines) == 0 {
		s.text(margin, s.GetY(), s.d.label("none"))
		s.SetY(s.GetY() + row)
	}
	for _, l := range s.d.Lines {
		if s.GetY()+row > 278 {
			s.page()
			s.tableHead()
		}
		y := s.GetY()
		s.text(margin, y, s.fit(l.Model, 54))
		for i, n := range []string{Grouped(l.Requests), Grouped(l.Input), Grouped(l.CachedInput), Grouped(l.Output), Grouped(l.Reasoning), Money(l.Amount)} {
			s.right(margin+columns[i].edge, y, n)
		}
		s.SetY(y + row)
	}
	s.Line(margin, s.GetY()-row+2, pageWidth-margin, s.GetY()-row+2)
}

func (s *sheet) sum(label, value string, bold bool) {
	s.need(row)
	s.style(bold, body)
	y := s.GetY() + 2
	s.right(margin+146, y, label)
	s.right(margin+inner, y, value)
	s.SetY(s.GetY() + row)
}

func (s *sheet) sums() {
	d := s.d
	s.need(4 * row)
	if d.TaxRate != "" {
		s.sum(d.label("net"), Money(d.Net), false)
		s.sum(d.label("tax")+" "+d.TaxRate+" %", Money(d.Tax), false)
	}
	s.sum(d.label("total")+" "+d.Currency, Money(d.Total), true)
	s.style(false, 7)
	s.text(margin, s.GetY()+2, d.label("tokens"))
	s.SetY(s.GetY() + 2*row)
}

func (s *sheet) account() {
	if len(s.d.Account) == 0 {
		return
	}
	s.need(float64(len(s.d.Account)+2) * row)
	s.style(true, body)
	s.text(margin, s.GetY(), s.d.label("account"))
	s.SetY(s.GetY() + row)
	s.style(false, body)
	for _, m := range s.d.Account {
		s.text(margin, s.GetY(), s.d.label(m.Name))
		s.right(margin+80, s.GetY(), Money(m.Amount)+" "+s.d.Currency)
		s.SetY(s.GetY() + row)
	}
}
