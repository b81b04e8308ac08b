//go:build lab

package labtest

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/guest"
)

func TestLabGuest(t *testing.T) {
	for _, kaslr := range []bool{false, true} {
		name := "direct"
		if kaslr {
			name = "kaslr"
		}
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			g := StartGuest(t, guest.Spec{KASLR: kaslr, Cmdline: "govmi.test=1", Run: []string{"echo from-run"}})
			if g.DomID() == 0 {
				t.Error("the guest is dom0")
			}
			g.WaitLine(ctx, regexp.MustCompile(`(?m)^from-run$`))
			if out, status := g.Exec(ctx, "echo one; false"); out != "one\n" || status != 1 {
				t.Errorf("got %q and status %d", out, status)
			}
			if out := g.MustExec(ctx, "cat /proc/cmdline"); !strings.Contains(out, " govmi.test=1") {
				t.Errorf("kernel command line is %q", out)
			}
			script := "for i in 1 2 3; do\n  echo line $i\ndone\n: " + strings.Repeat("x", 10000) + "\nprintf %s \"$0\" | wc -c >/dev/null\nexit 7"
			out, status := g.Exec(ctx, script)
			if diff := cmp.Diff("line 1\nline 2\nline 3\n", out); diff != "" || status != 7 {
				t.Errorf("script: status %d, output (-want +got):\n%s", status, diff)
			}
			c := g.Start(ctx, "workload calls -kind pread64 -n 2000 -wait /tmp/go")
			m := c.WaitLine(ctx, regexp.MustCompile(`calls ready pid=(\d+) tids=`))
			if m[1] != strconv.Itoa(c.PID()) {
				t.Errorf("workload's pid is %s, the command's %d", m[1], c.PID())
			}
			g.MustExec(ctx, "touch /tmp/go")
			out, status = c.Wait(ctx)
			if want := "calls kind=pread64 n=2000 pid=" + m[1] + "\n"; status != 0 || !strings.Contains(out, want) {
				t.Errorf("status %d, output %q lacks %q", status, out, want)
			}
			text := g.MustExec(ctx, "grep -w _stext /proc/kallsyms")
			if linked := strings.HasPrefix(text, "ffffffff81000000 "); linked == kaslr {
				t.Errorf("kernel text: %q", text)
			}
			if sum := g.MustExec(ctx, "workload textsum"); sum != g.MustExec(ctx, "workload textsum") {
				t.Error("two sums of the kernel's text differ")
			}
		})
	}
}

func TestLabSharedGuest(t *testing.T) {
	spec := guest.Spec{KASLR: true}
	a := SharedGuest(t, spec)
	a.MustExec(t.Context(), "echo hello >/tmp/shared")
	b := SharedGuest(t, spec)
	if a.DomID() != b.DomID() {
		t.Errorf("two guests, %d and %d", a.DomID(), b.DomID())
	}
	if out := b.MustExec(t.Context(), "cat /tmp/shared"); out != "hello\n" {
		t.Errorf("got %q", out)
	}
}

func TestLabCreatePaused(t *testing.T) {
	g := CreatePaused(t, guest.Spec{})
	if s := g.Console().String(); s != "" {
		t.Errorf("a guest that has not run printed %q", s)
	}
	g.Unpause(t.Context())
	if err := g.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Who waits for a guest that has stopped is told so.
	never := regexp.MustCompile("never")
	c := g.Start(t.Context(), "sleep 1; echo b >/proc/sysrq-trigger")
	if _, err := c.Command.WaitLine(t.Context(), never); !errors.Is(err, guest.ErrGone) || !strings.Contains(fmt.Sprint(err), "reason 1 ") {
		t.Errorf("a guest that has reset itself, and that nobody makes anew: %v", err)
	}
	g.Destroy(t.Context())
	if _, err := g.Console().Wait(t.Context(), never); !errors.Is(err, guest.ErrGone) {
		t.Errorf("destroyed: %v", err)
	}
	if g.Alive(t.Context()) {
		t.Error("alive after its end")
	}
	g.Destroy(t.Context())
}
