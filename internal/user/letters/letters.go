// Package letters writes the mails of accounts, in English and Chinese, each as plain text and as HTML with the same words. It knows no service and sends nothing.
package letters

import (
	"bytes"
	"embed"
	"fmt"
	htmltemplate "html/template"
	"strings"
	"text/template"
)

// Kind of a letter.
type Kind string

// The letters.
const (
	Verify     Kind = "verify"     // prove your address
	Exists     Kind = "exists"     // somebody registered with an address that has an account
	Reset      Kind = "reset"      // choose a new password
	Changed    Kind = "changed"    // the password was changed
	Approved   Kind = "approved"   // the account may sign in now
	Rejected   Kind = "rejected"   // it may not
	Invitation Kind = "invitation" // become a member
	Reused     Kind = "reused"     // a refresh token came twice: a session was ended
	Factor     Kind = "factor"     // the second factor was added or taken away
)

// Kinds lists all letters.
var Kinds = []Kind{Verify, Exists, Reset, Changed, Approved, Rejected, Invitation, Reused, Factor}

// Data is what a letter speaks of. Unneeded fields stay empty.
type Data struct {
	Name   string // of the reader
	Site   string // name of the installation: its host
	Link   string // the button
	Team   string
	By     string // who caused it
	Valid  string // how long the link holds: "24 h"
	Detail string // what happened: "totp on"
}

// Letter is a finished text.
type Letter struct{ Subject, Text, HTML string }

// words of one letter in one language. Each is a text/template over Data; Notes stand under the button in small print.
type words struct {
	subject, button string
	lines, notes    []string
}

//go:embed layout.html layout.txt
var layouts embed.FS

var (
	htmlLayout = htmltemplate.Must(htmltemplate.ParseFS(layouts, "layout.html"))
	textLayout = template.Must(template.ParseFS(layouts, "layout.txt"))
)

// page is what the layouts show.
type page struct {
	Lang, Subject, Hello, Button, Link, Site, Copy, Sign string
	Lines, Notes                                         []string
}

// Write makes a letter in the reader's language: Chinese for zh and its variants, English else.
func Write(kind Kind, locale string, d Data) (Letter, error) {
	lang := "en"
	if locale == "zh" || strings.HasPrefix(locale, "zh-") {
		lang = "zh"
	}
	w, ok := texts[lang][kind]
	if !ok {
		return Letter{}, fmt.Errorf("there is no letter %q", kind)
	}
	d.Name, d.Team, d.By, d.Site = line(d.Name), line(d.Team), line(d.By), line(d.Site)
	p := page{Lang: lang, Link: d.Link, Site: d.Site, Copy: frame[lang].copy, Sign: frame[lang].sign}
	var err error
	fill := func(text string) string {
		var b strings.Builder
		t, e := template.New("").Option("missingkey=error").Parse(text)
		if e == nil {
			e = t.Execute(&b, d)
		}
		if e != nil {
			err = e
		}
		return b.String()
	}
	p.Subject = fill(w.subject)
	p.Hello, p.Sign = fill(frame[lang].hello), fill(p.Sign)
	if d.Link != "" {
		p.Button = fill(w.button)
	}
	for _, l := range w.lines {
		if s := fill(l); s != "" {
			p.Lines = append(p.Lines, s)
		}
	}
	for _, l := range w.notes {
		p.Notes = append(p.Notes, fill(l))
	}
	if err != nil {
		return Letter{}, err
	}
	var text, html bytes.Buffer
	if err := textLayout.Execute(&text, p); err != nil {
		return Letter{}, err
	}
	if err := htmlLayout.Execute(&html, p); err != nil {
		return Letter{}, err
	}
	return Letter{Subject: p.Subject, Text: text.String(), HTML: html.String()}, nil
}

// line keeps what people typed on one line and short: a name is no place for a message.
func line(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)), " ")
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	// A name that reads as an address would be made a link by mail programs: a way to have us mail somebody's advertisement.
	return strings.NewReplacer("://", " ", "www.", "www ").Replace(s)
}
