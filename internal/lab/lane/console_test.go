package lane

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDiagnose(t *testing.T) {
	for _, tt := range []struct {
		line string
		want error
	}{
		{"(XEN) Panic on CPU 0:", ErrXenPanic},
		{"(XEN) [   12.345678] Panic on CPU 3:", ErrXenPanic},
		{"(XEN) [0000000017ff24ae] FATAL TRAP: vector = 2 (nmi)", ErrXenPanic},
		{"(XEN) Xen BUG at common/domain.c:123", ErrXenPanic},
		{"(XEN) Assertion 'x' failed at mm.c:1", ErrXenPanic},
		{"(XEN) Hardware Dom0 crashed: 'noreboot' set - not rebooting.", ErrDom0Panic},
		{"[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs", ErrDom0Panic},
		{"Kernel panic - not syncing: Attempted to kill init!", ErrDom0Panic},
		{"GOVMI-DOM0-FAILED: no xenfs", ErrDom0Init},
		// What guests write does not count.
		{"(d1) Kernel panic - not syncing", nil},
		{"(XEN) d2v0 Kernel panic - not syncing", nil},
		{"(d3) GOVMI-DOM0-FAILED", nil},
		{"(XEN) HVM d1v0 save: CPU", nil},
		{"Panic on CPU 0:", nil},
		{"", nil},
	} {
		if got := diagnose(tt.line); !errors.Is(got, tt.want) {
			t.Errorf("%q: %v, want %v", tt.line, got, tt.want)
		}
	}
}

func TestConsoleFollows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "console")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(s string) {
		t.Helper()
		if _, err := f.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	write("first\r\n\x1b[31msec")
	c := newConsole(t.Context(), file)
	lines := make(chan string, 100)
	c.OnLine(func(line string) { lines <- line })
	write("ond\x1b[0m\n\n")
	for line := ""; line != "[31msecond[0m"; {
		line = <-lines
	}
	write(strings.Repeat("x", maxLine+10) + "\n(XEN) Panic on CPU 0:\n")
	write("(XEN) the reason, which comes later\n(XEN) without an end of line")
	<-c.Failed()
	if !errors.Is(c.Err(), ErrXenPanic) {
		t.Errorf("Err = %v", c.Err())
	}
	got := strings.Split(c.Tail(), "\n")
	want := []string{
		"first", "[31msecond[0m", strings.Repeat("x", maxLine), strings.Repeat("x", 10),
		"(XEN) Panic on CPU 0:", "(XEN) the reason, which comes later", "(XEN) without an end of line",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("tail (-want +got):\n%s", d)
	}
	if time.Since(c.LastOutput()) < 0 || c.LastOutput().IsZero() {
		t.Errorf("LastOutput = %v", c.LastOutput())
	}
}

func TestConsoleTailIsBounded(t *testing.T) {
	c := &Console{}
	for range 1000 {
		c.add([]byte("line\n"))
	}
	if n := len(strings.Split(c.Tail(), "\n")); n != tailLines {
		t.Errorf("%d lines, want %d", n, tailLines)
	}
}

// Whatever a guest gets onto the console, lines are bounded and harmless to a terminal.
func FuzzConsole(f *testing.F) {
	f.Add([]byte("(XEN) Panic on CPU 0:\n"), 3)
	f.Add([]byte("\x1b]0;title\x07\xff\xfe\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, chunk int) {
		chunk = max(1, chunk%64)
		c := &Console{}
		c.OnLine(func(line string) {
			if len(line) > maxLine {
				t.Errorf("line of %d bytes", len(line))
			}
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				t.Errorf("control characters in %q", line)
			}
		})
		for len(in) > 0 {
			n := min(chunk, len(in))
			c.add(in[:n])
			in = in[n:]
		}
		if len(c.partial) >= maxLine+64 {
			t.Errorf("%d bytes kept", len(c.partial))
		}
	})
}
