// Package mailtest runs a real SMTP server on loopback for tests: with TLS from the start, STARTTLS or none, sign-in, and answers of the test's choice.
package mailtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	platform "maas/internal/platform/mail"
)

// Options of a server.
type Options struct {
	Scheme             string // smtps, smtp (STARTTLS) or smtp+plain; "" = smtp+plain
	Username, Password string // sign-in is demanded if set
	NoSTARTTLS         bool   // a server that does not offer it
}

// Letter is what the server took.
type Letter struct {
	From, To          string
	Subject, ID       string
	Text, HTML        string
	Header            mail.Header
	Encrypted, Signed bool // the connection was under TLS; the client had signed in
}

var link = regexp.MustCompile(`https?://\S+`)

// Link returns the first address in the text.
func (l Letter) Link() string { return link.FindString(l.Text) }

// Server is a running SMTP server.
type Server struct {
	Config platform.Config // what a client needs
	o      Options
	got    chan Letter
	mu     sync.Mutex // guards refuse
	refuse func(to string) error
}

// Start runs a server until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Scheme == "" {
		o.Scheme = "smtp+plain"
	}
	s := &Server{o: o, got: make(chan Letter, 1000)}
	cert, ca := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Config = platform.Config{URL: o.Scheme + "://" + l.Addr().String(), Username: o.Username, Password: o.Password, From: "maas <maas@example.com>", CA: ca}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{s: s, c: c}, nil }))
	server.Domain, server.AllowInsecureAuth = "localhost", o.Scheme == "smtp+plain"
	server.ErrorLog = quiet{}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	switch {
	case o.Scheme == "smtps":
		l = tls.NewListener(l, conf)
	case o.Scheme == "smtp" && !o.NoSTARTTLS:
		server.TLSConfig = conf
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close(); <-done })
	return s
}

// Refuse makes the server answer an error for some receivers; nil takes all again.
func (s *Server) Refuse(f func(to string) error) { s.mu.Lock(); s.refuse = f; s.mu.Unlock() }

// Reply makes an SMTP answer for Refuse.
func Reply(code int, text string) error { return &smtp.SMTPError{Code: code, Message: text} }

// Next waits for a letter.
func (s *Server) Next(t testing.TB) Letter {
	t.Helper()
	select {
	case l := <-s.got:
		return l
	case <-time.After(60 * time.Second):
		t.Fatal("no letter came")
		return Letter{}
	}
}

// None says that nothing has come so far.
func (s *Server) None(t testing.TB) {
	t.Helper()
	select {
	case l := <-s.got:
		t.Fatalf("a letter came that should not: %q to %s", l.Subject, l.To)
	default:
	}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

type session struct {
	s      *Server
	c      *smtp.Conn
	signed bool
	from   string
	to     []string
}

func (x *session) AuthMechanisms() []string {
	if x.s.o.Username == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (x *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != x.s.o.Username || password != x.s.o.Password {
			return smtp.ErrAuthFailed
		}
		x.signed = true
		return nil
	}), nil
}

func (x *session) Mail(from string, _ *smtp.MailOptions) error {
	if x.s.o.Username != "" && !x.signed {
		return smtp.ErrAuthRequired
	}
	x.from, x.to = from, nil
	return nil
}

func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	x.s.mu.Lock()
	refuse := x.s.refuse
	x.s.mu.Unlock()
	if refuse != nil {
		if err := refuse(to); err != nil {
			return err
		}
	}
	x.to = append(x.to, to)
	return nil
}

func (x *session) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	l := Letter{From: x.from, To: strings.Join(x.to, ","), Header: m.Header, ID: m.Header.Get("Message-ID"), Signed: x.signed}
	_, l.Encrypted = x.c.TLSConnectionState()
	if l.Subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		return err
	}
	if err := l.read(m); err != nil {
		return err
	}
	x.s.got <- l
	return nil
}

func (x *session) Reset()        {}
func (x *session) Logout() error { return nil }

// read takes the two forms of a letter out of its parts.
func (l *Letter) read(m *mail.Message) error {
	kind, p, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		return errors.Join(err, errors.New("the letter has no alternatives: "+kind))
	}
	parts := multipart.NewReader(m.Body, p["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			return err
		}
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			l.HTML = string(b)
		} else {
			l.Text = string(b)
		}
	}
}

// certificate makes a certificate for 127.0.0.1 and the file that vouches for it.
func certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail test"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
