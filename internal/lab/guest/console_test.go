package guest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestConsoleWait(t *testing.T) {
	file := filepath.Join(t.TempDir(), "guest-g.log")
	c := &Console{file: file}
	if s := c.String(); s != "" {
		t.Errorf("a console without output: %q", s)
	}
	re := regexp.MustCompile(`(?m)^n=(\d+)$`)
	found := make(chan error, 1)
	go func() {
		m, err := c.Wait(context.Background(), re)
		if err == nil && m[1] != "42" {
			err = errors.New("match " + m[1])
		}
		found <- err
	}()
	if err := os.WriteFile(file, []byte("[ 1.0] kernel\r\nn=42\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-found; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	// Of a number half of the digits may have come.
	if err := os.WriteFile(file, []byte("n=4"), 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Wait(ctx, regexp.MustCompile(`n=(\d+)`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("half a line: %q, %v", m, err)
	}
	if _, err := c.Wait(ctx, regexp.MustCompile("never")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
	if err := os.WriteFile(file, []byte("n=1\n[ 2.0] Kernel panic - not syncing: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	end, err := c.end()
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{0, end} {
		if _, err := c.waitFrom(context.Background(), from, regexp.MustCompile("never")); !errors.Is(err, ErrPanic) {
			t.Errorf("from %d: got %v, want ErrPanic", from, err)
		}
	}
	// What was printed before is not what is waited for, and lines are whole.
	if err := os.WriteFile(file, []byte("n=1\r\nn=2\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[int64]string{0: "1", 4: "2", 5: "2"} { // 4 is within the end of a line
		if m, err := c.waitFrom(context.Background(), from, re); err != nil || m[1] != want {
			t.Errorf("from %d: %q, %v", from, m, err)
		}
	}
}

func TestCommandOutput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "guest-g.log")
	text := "earlier\n@begin 1.1 90\n@end 1.1 0\n@begin 1.2 91\nhello\nno newline@end 1.2 3\nlater\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	g := &Guest{spec: Spec{Name: "g"}, console: &Console{file: file}}
	c := &Command{guest: g, token: "1.2", from: int64(len("earlier\n")), pid: 91}
	out, status, err := c.Wait(t.Context())
	if out != "hello\nno newline" || status != 3 || err != nil {
		t.Errorf("got %q, %d, %v", out, status, err)
	}
}
