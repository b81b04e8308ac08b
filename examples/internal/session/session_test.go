package session

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	if got := Printable("a\x1b[2J\n b\xff"); got != "a?[2J? b?" {
		t.Errorf("%q", got)
	}
}

func TestGuarded(t *testing.T) {
	err := Guarded(func() error { panic("boo") })
	if err == nil || !strings.Contains(err.Error(), "boo") || strings.Contains(OneLine(err), "\n") {
		t.Errorf("%v", err)
	}
	if err := Guarded(func() error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
