package factor

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/stretchr/testify/require"
)

func TestCodesOfRFC6238(t *testing.T) {
	t.Parallel()
	const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // "12345678901234567890"; appendix B, last six digits
	for at, code := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		step, ok := Check(secret, code, time.Unix(at, 0), 0)
		require.True(t, ok, "%d", at)
		require.Equal(t, at/30, step)
		_, ok = Check(secret, code, time.Unix(at, 0), step)
		require.False(t, ok, "used")
		_, ok = Check(secret, code, time.Unix(at+30, 0), 0)
		require.True(t, ok, "a slow clock")
		_, ok = Check(secret, code, time.Unix(at+90, 0), 0)
		require.False(t, ok, "too old")
		_, ok = Check(secret, "", time.Unix(at, 0), 0)
		require.False(t, ok)
	}
	seen := map[string]bool{}
	for _, c := range RecoveryCodes() {
		require.Regexp(t, `^([a-z0-9]{4}-){3}[a-z0-9]{4}$`, c)
		seen[c] = true
	}
	require.Len(t, seen, 10)
}

// The picture is drawn again from its path and compared with the modules of the code.
func TestPicture(t *testing.T) {
	t.Parallel()
	k, err := NewTOTP("models.example.com:8443", "ada@example.com")
	require.NoError(t, err)
	require.Len(t, k.Secret, 32, "160 bits")
	require.Contains(t, k.URL, "issuer=models.example.com%208443")
	var p struct {
		ViewBox string `xml:"viewBox,attr"`
		Path    struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	require.NoError(t, xml.Unmarshal([]byte(k.QR), &p))
	c, err := qr.Encode(k.URL, qr.M, qr.Auto)
	require.NoError(t, err)
	n := c.Bounds().Dx()
	require.Equal(t, fmt.Sprintf("0 0 %d %d", n+8, n+8), p.ViewBox)
	black := map[[2]int]bool{}
	for run := range strings.SplitSeq(strings.TrimPrefix(p.Path.D, "M"), "M") {
		var x, y, w, back int
		_, err := fmt.Sscanf(run, "%d %dh%dv1h-%dz", &x, &y, &w, &back)
		require.NoError(t, err, run)
		require.Equal(t, w, back)
		for i := range w {
			black[[2]int{x + i - 4, y - 4}] = true
		}
	}
	for y := range n {
		for x := range n {
			r, _, _, _ := c.At(x, y).RGBA()
			require.Equal(t, r == 0, black[[2]int{x, y}], "%d,%d", x, y)
		}
	}
}
