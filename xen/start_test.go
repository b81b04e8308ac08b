package xen

import (
	"testing"
	"time"
)

func TestParseStart(t *testing.T) {
	for text, want := range map[string]time.Time{
		"1764259200.05": time.Unix(1764259200, 50e6),
		"0.99":          time.Unix(0, 990e6),
		"":              {}, "7": {}, "7.": {}, ".5": {}, "-7.05": {}, "7.100": {}, "7.5x": {}, "99999999999999.00": {},
	} {
		got, ok := parseStart(text)
		if ok == want.IsZero() || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	}
}
