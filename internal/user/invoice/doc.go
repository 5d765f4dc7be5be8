// Package invoice puts invoices and statements on paper (PDF) and into tables (CSV). It computes nothing: every number in a [Document] is printed as it stands.
//
// Western text is set in Helvetica, which every reader has; everything else in an embedded font with the characters of GB 2312 and the common ones of Big5. A character that neither has is shown as an empty box.
package invoice
