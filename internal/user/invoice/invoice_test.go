package invoice

import (
	"bytes"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMoney(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0.00", 1: "0.000001", 1_500_000: "1.50", -1_500_001: "-1.500001", 12_345_678_900_000: "12345678.90", math.MinInt64: "-9223372036854.775808", math.MaxInt64: "9223372036854.775807"} {
		require.Equal(t, want, Money(n))
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, Grouped(n))
	}
}

func sample(lines int) Document {
	d := Document{
		Number: "INV-2026-000001", Month: "2026-11", Zone: "Asia/Shanghai", Issued: time.Unix(1_800_000_000, 0), Seller: []string{"模型服务有限公司", "Straße 1, 10115 Köln"}, Customer: []string{"北京智源研究院", "VAT €-1"},
		Currency: "CNY", Net: 12_345_678, Tax: 740_741, TaxRate: "6", Total: 13_086_419, Account: []Movement{{"opening", 0}, {"usage", -12_345_678}, {"closing", -12_345_678}},
	}
	for i := range lines {
		d.Lines = append(d.Lines, Line{Model: "通义千问-" + strings.Repeat("x", i%60), Requests: 12, Input: 1_234_567, CachedInput: 9, Output: 55, Reasoning: 1, Amount: 12_345_678})
	}
	return d
}

func TestPDF(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]Document{
		"long": sample(120), "empty": {Month: "2026-01", Zone: "UTC", Currency: "CNY"}, "chinese": func() Document { d := sample(3); d.Chinese, d.Draft, d.Number = true, true, ""; return d }(),
		"void": func() Document { d := sample(1); d.Void = "重复 㐀 𠮷 \U0001F600"; return d }(),
	} {
		var a bytes.Buffer
		require.NoError(t, PDF(&a, d), name)
		require.True(t, bytes.HasPrefix(a.Bytes(), []byte("%PDF-")), name)
		require.Less(t, a.Len(), 300_000, "%s: only the characters in use are embedded", name)
		if dir := os.Getenv("MAAS_TEST_PDF_DIR"); dir != "" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name+".pdf"), a.Bytes(), 0o600))
		}
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	d := sample(1)
	d.Lines[0].Model = "=cmd|' /C calc'!A0"
	var b bytes.Buffer
	require.NoError(t, CSV(&b, d))
	rows, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+1+3+3)
	require.Equal(t, "'=cmd|' /C calc'!A0", rows[1][3])
	require.Equal(t, "12.345678", rows[1][10])
	require.Equal(t, []string{"total", "INV-2026-000001", "2026-11", "", "", "", "", "", "", "CNY", "13.086419"}, rows[4])
}
