package mail_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/platform/mail"
	"maas/internal/platform/mail/mailtest"
)

func letter(to string) mail.Message {
	return mail.Message{ID: "abc", To: to, Subject: "请确认 – confirm", Text: "你好\n.\nhttps://example.com/x", HTML: "<p>你好</p>"}
}

func TestLettersGoUnderTLSAndSignedIn(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"smtps", "smtp", "smtp+plain"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			server := mailtest.Start(t, map[bool]mailtest.Options{true: {Scheme: scheme}, false: {Scheme: scheme, Username: "maas", Password: "geheim"}}[scheme == "smtp+plain"])
			s, err := mail.New(server.Config)
			require.NoError(t, err)
			require.NoError(t, s.Send(t.Context(), letter("ada@example.com")))
			l := server.Next(t)
			require.Equal(t, "maas@example.com", l.From)
			require.Equal(t, "ada@example.com", l.To)
			require.Equal(t, "请确认 – confirm", l.Subject)
			require.Equal(t, "<abc@example.com>", l.ID)
			require.Contains(t, l.Text, "你好\r\n.\r\nhttps://example.com/x")
			require.Contains(t, l.HTML, "<p>你好</p>")
			require.Equal(t, scheme != "smtp+plain", l.Encrypted)
			require.Equal(t, scheme != "smtp+plain", l.Signed)
			require.Equal(t, "auto-generated", l.Header.Get("Auto-Submitted"))
			if scheme == "smtp+plain" {
				return
			}
			wrong := server.Config
			wrong.Password = "falsch"
			s, err = mail.New(wrong)
			require.NoError(t, err)
			require.ErrorIs(t, s.Send(t.Context(), letter("ada@example.com")), mail.ErrAway)
			server.None(t)
		})
	}
}

func TestNoLetterWithoutTheTLSThatWasAskedFor(t *testing.T) {
	t.Parallel()
	stripped := mailtest.Start(t, mailtest.Options{Scheme: "smtp", NoSTARTTLS: true})
	s, err := mail.New(stripped.Config)
	require.NoError(t, err)
	require.ErrorIs(t, s.Send(t.Context(), letter("ada@example.com")), mail.ErrAway, "STARTTLS was taken out on the way")
	stripped.None(t)
	for _, scheme := range []string{"smtp", "smtps"} {
		server := mailtest.Start(t, mailtest.Options{Scheme: scheme})
		c := server.Config
		c.CA = "" // the system's authorities do not know the certificate
		s, err = mail.New(c)
		require.NoError(t, err)
		require.ErrorIs(t, s.Send(t.Context(), letter("ada@example.com")), mail.ErrAway)
		server.None(t)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	server := mailtest.Start(t, mailtest.Options{})
	s, err := mail.New(server.Config)
	require.NoError(t, err)
	server.Refuse(func(to string) error {
		if to == "gone@example.com" {
			return mailtest.Reply(550, "no such user")
		}
		return mailtest.Reply(451, "later")
	})
	require.ErrorIs(t, s.Send(t.Context(), letter("gone@example.com")), mail.ErrRefused)
	require.ErrorIs(t, s.Send(t.Context(), letter("grey@example.com")), mail.ErrAway)
	for _, to := range []string{"", "nobody", "a@example.com\r\nBcc: b@example.com", "x@dingtalk.invalid"} {
		require.ErrorIs(t, s.Send(t.Context(), letter(to)), mail.ErrAddress, "%q", to)
	}
	server.Refuse(nil)
	m := letter("ada@example.com")
	m.Subject = "a\r\nBcc: b@example.com"
	require.NoError(t, s.Send(t.Context(), m))
	l := server.Next(t)
	require.Equal(t, "ada@example.com", l.To)
	require.Empty(t, l.Header.Get("Bcc"))
}

func TestConfig(t *testing.T) {
	t.Parallel()
	s, err := mail.New(mail.Config{})
	require.NoError(t, err)
	require.Nil(t, s, "no mail server")
	for _, c := range []mail.Config{
		{URL: "smtp://mail.example.com"},
		{URL: "smtp://mail.example.com", From: "nobody"},
		{URL: "smtp://u:p@mail.example.com", From: "a@example.com"},
		{URL: "smtp+plain://mail.example.com:25", From: "a@example.com"},
		{URL: "smtp+plain://10.0.0.1:25", From: "a@example.com"},
		{URL: "smtp+plain://127.0.0.1:25", From: "a@example.com", Username: "u"},
		{URL: "http://mail.example.com", From: "a@example.com"},
		{URL: "smtp://mail.example.com:99999", From: "a@example.com"},
		{URL: "smtp://mail.example.com", From: "a@example.com", ReplyTo: "x"},
		{URL: "smtp://mail.example.com", From: "a@example.com", CA: "/nowhere.pem"},
	} {
		_, err := mail.New(c)
		require.ErrorIs(t, err, mail.ErrConfig, "%+v", c)
	}
	_, err = mail.New(mail.Config{URL: "smtps://mail.example.com", From: "Our team <a@example.com>", ReplyTo: "help@example.com"})
	require.NoError(t, err)
}
