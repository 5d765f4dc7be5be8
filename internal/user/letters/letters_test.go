package letters

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryLetterInBothLanguages(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds {
		seen := map[string]bool{}
		for _, locale := range []string{"en", "zh", "zh-CN", "fr"} {
			l, err := Write(kind, locale, Data{Name: "Ada", Site: "models.example.com", Link: "https://models.example.com/x?token=a&b", Team: "Lab", By: "bob@example.com", Valid: "24 h", Detail: "totp_on"})
			require.NoError(t, err)
			require.NotEmpty(t, l.Subject)
			require.NotContains(t, l.Subject+l.Text+l.HTML, "<no value>")
			require.NotContains(t, l.Subject+l.Text+l.HTML, "{{")
			require.Contains(t, l.Text, "https://models.example.com/x?token=a&b")
			require.Contains(t, l.HTML, "https://models.example.com/x?token=a&amp;b")
			require.Contains(t, l.HTML, "<html lang=\""+map[bool]string{true: "zh", false: "en"}[strings.HasPrefix(locale, "zh")])
			seen[l.Subject] = true
		}
		require.Len(t, seen, 2, "%s is the same in both languages", kind)
	}
	_, err := Write("nonsense", "en", Data{})
	require.Error(t, err)
}

func TestNamesAreNoPlaceForMessages(t *testing.T) {
	t.Parallel()
	l, err := Write(Verify, "en", Data{Name: "<script>alert(1)</script>\r\nBcc: x@example.com https://evil.example", Site: "s", Link: "javascript:alert(1)"})
	require.NoError(t, err)
	require.NotContains(t, l.HTML, "<script>")
	require.NotContains(t, l.HTML, `href="javascript`)
	require.NotContains(t, l.Text, "\r\nBcc")
	require.NotContains(t, l.Text, "https://evil")
	l, err = Write(Invitation, "zh", Data{Team: strings.Repeat("长", 500), Site: "s"})
	require.NoError(t, err)
	require.Less(t, len([]rune(l.Subject)), 80)
	require.NotContains(t, l.Text, "接受邀请", "no button without a link")
}
