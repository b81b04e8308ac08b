package main

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// appendSafe appends text of the guest so that no terminal does anything but show
// it: control characters as ^X, bytes that are no UTF-8 as \xNN, and characters
// that are not seen or change the direction of writing as \u{N}.
func appendSafe(dst, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			dst = fmt.Appendf(dst, `\x%02x`, text[0])
		case r < ' ' || r == 0x7f:
			dst = append(dst, '^', byte(r)^0x40)
		case r == ' ' || unicode.IsPrint(r):
			dst = append(dst, text[:n]...)
		default:
			dst = fmt.Appendf(dst, `\u{%x}`, r)
		}
		text = text[n:]
	}
	return dst
}
