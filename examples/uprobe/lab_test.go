//go:build lab

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// mainVar makes the test binary the program itself.
const mainVar = "GOVMI_UPROBE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVar) != "" {
		main()
	}
	os.Exit(m.Run())
}

// patience bounds what should take seconds.
const patience = 3 * time.Minute

// A function of a library that a process has mapped and not touched: all its calls
// are seen with arguments and results, in the shared page, in a page of its own, where
// it maps the library next, and as the next program that it executes, and none of
// another process's, nor of a copy of the process that has the same pages.
func TestLabUprobe(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	n := labtest.Count(1000)
	c := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload mapped -n %d -wait /tmp/go", n))
	m := c.WaitLine(ctx, regexp.MustCompile(`mapped ready pid=(\d+)`))
	before := g.MustExec(ctx, "sha256sum /tmp/libmapped.so")
	args := []string{"-domain", g.Name(), "-pid", m[1], "-file", "libmapped.so", "-func", "mapped_function", "-ret", "-json"}
	look := "text=0" // the process reads what it has written
	if !labtest.VMX() {
		var out, msg bytes.Buffer
		if status := run(ctx, nil, args, &out, &msg); status != 1 || strings.Count(msg.String(), "\n") != 1 || !strings.Contains(msg.String(), "altp2m") {
			t.Errorf("on AMD: status %d, %q", status, msg.String())
		}
		// The bytes are patched, and seen, so that the look is known to see.
		args = append(args, "-shared")
		look = "text=[1-9]"
	}
	p := sessiontest.Start(t, "watching", func(ctx context.Context, out, msg io.Writer) int {
		return run(ctx, nil, args, out, msg)
	})
	if !strings.Contains(p.Msg.String(), "; 0 breakpoints wait") {
		t.Errorf("not armed before the process calls: %s", p.Msg.String())
	}
	g.MustExec(ctx, "touch /tmp/go")
	out, status := c.Wait(ctx)
	if status != 0 {
		t.Errorf("the guest says, with status %d: %s", status, out)
	}
	// By the guest's own word.
	for want, times := range map[string]int{
		fmt.Sprintf(`mapped calls=%d pid=%s wrong=0 %s`, 4*n, m[1], look): 1,
		fmt.Sprintf(`mapped calls=%d pid=\d+ wrong=0 %s`, n, look):        2, // after the exec, and by the other process
		fmt.Sprintf(`mapped calls=%d pid=\d+ wrong=0 %s`, 2*n, look):      1, // by the copy
	} {
		if got := len(regexp.MustCompile(want).FindAllString(out, -1)); got != times {
			t.Errorf("the guest says %q, %d times %s", out, got, want)
		}
	}
	calls, x := 0, uint64(1)
	comm := "workload"
	for d := json.NewDecoder(strings.NewReader(p.Lossless())); d.More(); calls++ {
		var got call
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		x = 3*x + 7
		if calls == 4*n {
			comm = "exe" // executed as /proc/self/exe
		}
		if fmt.Sprint(got.PID) != m[1] || got.TID == 0 || got.Comm != comm || got.Function != "mapped_function" || got.Tail ||
			strings.Join(got.Args, " ") != "0x1999999aaaaaaaaa 0x7777777708888888" || got.Return != fmt.Sprintf("%#x", x) {
			t.Fatalf("call %d: %+v, want the return of %#x", calls, got, x)
		}
	}
	if taken := strings.Contains(p.Msg.String(), "copies of breakpoints taken back"); taken == labtest.VMX() {
		t.Errorf("copies of breakpoints taken back: %v", taken)
	}
	if after := g.MustExec(ctx, "sha256sum /tmp/libmapped.so"); after != before {
		t.Errorf("the library is %s, was %s", after, before)
	}
	t.Logf("%d calls of %d\n%s", calls, 5*n, strings.TrimSpace(p.Msg.String()))
	if calls != 5*n {
		t.Errorf("%d calls, the guest made %d", calls, 5*n)
	}
}

// The program is ended while the process calls the function: by a signal, which it
// answers by detaching, or by a kill, after which the guest is recovered. The process
// goes on, whatever page it is in.
func TestLabUprobeKilled(t *testing.T) {
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	dom, err := h.Domain(g.DomID())
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	look := "text=0" // the process reads what it has written, but for patched bytes
	if !labtest.VMX() {
		look = `text=\d+`
	}
	for i := range labtest.Count(30) {
		sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT}[i%3]
		c := g.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload mapped -n %d -wait /tmp/go", n))
		m := c.WaitLine(ctx, regexp.MustCompile(`mapped ready pid=(\d+)`))
		p := sessiontest.Itself(t, mainVar, "-domain", g.Name(), "-pid", m[1], "-file", "libmapped.so", "-func", "mapped_function", "-shared")
		p.Msg.Await(t, "watching", 1)
		g.MustExec(ctx, "touch /tmp/go")
		p.Out.Await(t, "\n", 20+(i+1)*1117%(3*n)) // in the shared page, in an own one, or where it is mapped next
		if err := p.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		err := p.Wait()
		if killed := sig == syscall.SIGKILL; (err != nil) != killed {
			t.Errorf("%v number %d: %v, messages %q", sig, i, err, p.Msg.String())
		} else if killed {
			if r, err := session.Recover(dom, nil); err != nil || !r.Ring || r.AltP2M != labtest.VMX() || (len(r.Restored) > 0) == labtest.VMX() {
				t.Fatalf("kill %d: recovered %+v, %v", i, r, err)
			}
		}
		if s, err := dom.MonitorState(); s != xen.MonitorFree || err != nil {
			t.Errorf("%v number %d: the ring is %v, %v", sig, i, s, err)
		}
		if on, err := dom.AltP2M(); on || err != nil && labtest.VMX() {
			t.Errorf("%v number %d: altp2m is on: %v, %v", sig, i, on, err)
		}
		told, status := c.Wait(ctx)
		if want := fmt.Sprintf("mapped calls=%d pid=%s wrong=0 %s\n", 4*n, m[1], look); status != 0 || !regexp.MustCompile(want).MatchString(told) {
			t.Errorf("%v number %d: the guest says, with status %d: %s", sig, i, status, told)
		}
		if calls := strings.Count(p.Out.String(), "\n"); calls >= 5*n {
			t.Errorf("%v number %d came after all %d calls", sig, i, calls)
		}
	}
}
