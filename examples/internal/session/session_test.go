package session

import "testing"

func TestPrintable(t *testing.T) {
	if got := Printable("a\x1b[2J\n b\xff"); got != "a?[2J? b?" {
		t.Errorf("%q", got)
	}
}
