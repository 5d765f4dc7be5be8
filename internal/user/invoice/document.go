package invoice

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"
)

// Document is an invoice or a statement.
type Document struct {
	Chinese  bool   // labels; texts of people are printed as they are
	Title    string // "" = by Number: invoice, else statement
	Number   string // "" = statement or draft
	Draft    bool   // printed across the page
	Void     string // reason; "" = holds
	Month    string // 2026-11
	Zone     string // in which the month is counted
	Issued   time.Time
	Seller   []string // name, then lines
	Customer []string
	Currency string
	Lines    []Line
	Net      int64 // micro-units, as all amounts
	Tax      int64
	TaxRate  string // "19", "" = none
	Total    int64
	Account  []Movement // what moved on the wallet in the month
}

// Line is what calls of one model used and cost.
type Line struct {
	Model                                           string
	Requests, Input, CachedInput, Output, Reasoning int64
	Amount                                          int64
}

// Movement is a sum of postings of one kind, or a balance.
type Movement struct {
	Name   string // opening, topup, usage, refund, payout, adjust, closing
	Amount int64
}

// labels in both languages.
var labels = map[string][2]string{
	"invoice": {"Invoice", "账单"}, "statement": {"Statement", "对账单"}, "draft": {"Draft", "草稿"}, "void": {"Void", "已作废"}, "number": {"Number", "编号"}, "month": {"Month", "月份"}, "issued": {"Issued", "开具日期"},
	"from": {"From", "开票方"}, "to": {"To", "客户"}, "model": {"Model", "模型"}, "requests": {"Requests", "请求数"}, "input": {"Input", "输入"}, "cached": {"Cached", "缓存输入"}, "output": {"Output", "输出"}, "reasoning": {"Reasoning", "推理"},
	"amount": {"Amount", "金额"}, "net": {"Net", "不含税合计"}, "tax": {"Tax", "税额"}, "total": {"Total", "合计"}, "account": {"Wallet", "钱包"}, "tokens": {"Tokens are counted as the models' tokenizers count them.", "词元数以各模型的分词器计数为准。"},
	"opening": {"Opening balance", "期初余额"}, "topup": {"Paid in", "充值"}, "usage": {"Calls", "调用"}, "refund": {"Refunds", "退款"}, "payout": {"Paid out", "提现"}, "adjust": {"Corrections", "调整"}, "closing": {"Closing balance", "期末余额"},
	"none": {"No calls in this month.", "本月没有调用。"}, "page": {"Page", "第"},
}

func (d *Document) label(key string) string {
	if d.Chinese {
		return labels[key][1]
	}
	return labels[key][0]
}

func (d *Document) title() string {
	switch {
	case d.Title != "":
		return d.Title
	case d.Number != "" || d.Draft:
		return d.label("invoice")
	}
	return d.label("statement")
}

// Money writes micro-units as a decimal number, exactly: two decimals, more where there are more.
func Money(micro int64) string {
	sign, n := "", uint64(micro)
	if micro < 0 {
		sign, n = "-", -n
	}
	frac := strconv.FormatUint(n%1_000_000, 10)
	frac = strings.TrimRight(strings.Repeat("0", 6-len(frac))+frac, "0")
	for len(frac) < 2 {
		frac += "0"
	}
	return sign + strconv.FormatUint(n/1_000_000, 10) + "." + frac
}

// Grouped writes a count with separators of thousands.
func Grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// CSV writes the lines and sums as a table with a head, amounts as exact decimal numbers. Cells that a spreadsheet would take for a formula are quoted by a leading apostrophe.
func CSV(w io.Writer, d Document) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"kind", "number", "month", "model", "requests", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "currency", "amount"}}
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	for _, l := range d.Lines {
		rows = append(rows, []string{"line", d.Number, d.Month, Cell(l.Model), count(l.Requests), count(l.Input), count(l.CachedInput), count(l.Output), count(l.Reasoning), d.Currency, Money(l.Amount)})
	}
	sum := func(kind string, amount int64) {
		rows = append(rows, []string{kind, d.Number, d.Month, "", "", "", "", "", "", d.Currency, Money(amount)})
	}
	sum("net", d.Net)
	if d.TaxRate != "" {
		sum("tax", d.Tax)
	}
	sum("total", d.Total)
	for _, m := range d.Account {
		sum("wallet_"+m.Name, m.Amount)
	}
	return c.WriteAll(rows)
}

// Cell makes a text safe for spreadsheets, which run what begins with = + - @.
func Cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
