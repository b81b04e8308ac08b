//go:build lab

package cr3filter_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// A process makes its calls in a storm of short-lived ones, which get the page
// tables of those before them. The scope has all of its calls and none of
// theirs, and when it has ended their use of its root makes no event.
func TestLabScopeStorm(t *testing.T) {
	for _, m := range here(t) {
		t.Run(m.String(), func(t *testing.T) {
			ctx := t.Context()
			l := attach(t, labtest.Ordinary())
			const n = 200
			storms := labtest.Count(1000)
			calls := l.Start(ctx, fmt.Sprintf("rm -f /tmp/go; exec workload calls -kind getppid -n %d -wait /tmp/go", n))
			pid := ready(t, calls, `calls ready pid=(\d+) `)[0]
			s := l.scope(cr3filter.Process{PID: pid}, &cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{m}})
			stop := l.serve()
			defer stop()
			hits := map[int32]int{}
			l.count(s, getppid, hits)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			// Half of the storm comes while the process lives.
			storm := l.Start(ctx, fmt.Sprintf("for ((i = 0; i < %d; i++)); do ((i == %d)) && touch /tmp/go; busybox true || exit 1; done; echo storm of $i", storms, storms/2))
			if out, status := calls.Wait(ctx); status != 0 || !strings.Contains(out, fmt.Sprintf("calls kind=getppid n=%d pid=%d", n, pid)) {
				t.Errorf("the guest says, with status %d: %q", status, out)
			}
			ended, err := s.Stats()
			if err != nil {
				t.Error(err)
			}
			if left := s.Processes(); len(left) != 0 {
				t.Errorf("processes %v are still in the scope", left)
			}
			if m == cr3filter.FilteredByXen {
				if values, err := l.mon.CR3Values(); err != nil || len(values) != 0 {
					t.Errorf("Xen still watches %#x, %v", values, err)
				}
			}
			if out, status := storm.Wait(ctx); status != 0 || !strings.Contains(out, fmt.Sprintf("storm of %d", storms)) {
				t.Errorf("the guest says, with status %d: %q", status, out)
			}
			stop()
			stats := l.check(s)
			if hits[pid] != n || len(hits) != 1 || stats.Foreign != 0 {
				t.Errorf("hits %v, %d foreign; want %d of process %d alone", hits, stats.Foreign, n, pid)
			}
			if stats.CR3.Switches != ended.CR3.Switches {
				t.Errorf("%d switches after the process's end", stats.CR3.Switches-ended.CR3.Switches)
			}
			t.Logf("%d processes beside it: %+v", storms, stats)
		})
	}
}

// story forks, executes and becomes other programs.
const story = `read -r go </tmp/story.begin
workload calls -kind getppid -n 30
(workload calls -kind getppid -n 20; :)
exec workload calls -kind getppid -n 10`

// A process is followed when it executes another program, and on request the
// processes that it forks are.
func TestLabScopeFollow(t *testing.T) {
	for _, follow := range []bool{false, true} {
		all := ways(t)
		if !follow {
			all = all[:1] // what is not done is the same in all ways
		}
		for _, o := range all {
			o.Follow = follow
			t.Run(fmt.Sprintf("%v, views %v, follow %v", o.Mechanisms[0], !o.NoViews, follow), func(t *testing.T) {
				ctx := t.Context()
				l := attach(t, labtest.Ordinary())
				l.MustExec(ctx, "rm -f /tmp/story.begin; mkfifo /tmp/story.begin")
				bash := l.Start(ctx, story)
				pid := int32(bash.PID())
				s := l.scope(cr3filter.Process{PID: pid}, &o)
				stop := l.serve()
				defer stop()
				hits := map[int32]int{}
				l.count(s, getppid, hits)
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				l.MustExec(ctx, "echo go >/tmp/story.begin")
				out, status := bash.Wait(ctx)
				if status != 0 {
					t.Errorf("the guest's process ended with status %d: %s", status, out)
				}
				stop()
				if left := s.Processes(); len(left) != 0 {
					t.Errorf("processes %v are still in the scope", left)
				}
				stats := l.check(s)
				want := map[string]int{"30": 30, "20": 20, "10": 10}
				got := byCount(t, out, hits)
				if !follow {
					want["30"], want["20"] = 0, 0
				}
				if fmt.Sprint(got) != fmt.Sprint(want) || len(hits) != 0 {
					t.Errorf("hits %v, want %v; of others %v\n%+v\n%s", got, want, hits, stats, out)
				}
			})
		}
	}
}

// byCount takes the hits of the processes that say how many calls they made out of
// hits, and returns them by that number.
func byCount(t *testing.T, out string, hits map[int32]int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for _, m := range regexp.MustCompile(`calls kind=getppid n=(\d+) pid=(\d+)`).FindAllStringSubmatch(out, -1) {
		var id int32
		if _, err := fmt.Sscan(m[2], &id); err != nil {
			t.Fatal(err)
		}
		got[m[1]] = hits[id]
		delete(hits, id)
	}
	return got
}

// named executes programs of a name. The last of them, which makes calls of its
// own, executes another, whose child makes 20; neither has the name.
const named = `busybox true
workload calls -kind getppid -n 40
busybox true
bash -c 'exec workload calls -kind getppid -n 50'
ln -sf "$(command -v bash)" /tmp/workload
ln -sf "$(command -v workload)" /tmp/other
echo 20 | /tmp/workload -c 'echo "leaves pid=$$"; exec busybox xargs -n 1 /tmp/other calls -kind getppid -n'
rm /tmp/workload /tmp/other`

// Processes are found by the name of the program that they execute, when they do,
// and left when they execute another: what they fork then is not theirs.
func TestLabScopeByName(t *testing.T) {
	for _, o := range ways(t) {
		t.Run(fmt.Sprintf("%v, views %v", o.Mechanisms[0], !o.NoViews), func(t *testing.T) {
			ctx := t.Context()
			l := attach(t, labtest.Ordinary())
			s := l.scope(cr3filter.Process{Comm: "workload"}, &o)
			stop := l.serve()
			defer stop()
			hits := map[int32]int{}
			l.count(s, getppid, hits)
			va, err := l.kern.Symbols().Lookup("__x64_sys_execve")
			if err != nil {
				t.Fatal(err)
			}
			execs := 0
			if _, err := s.Insert(va, func(*xen.Request, linux.Task) xen.Response { execs++; return xen.Response{} }); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			out := l.MustExec(ctx, named)
			stop()
			if left := s.Processes(); len(left) != 0 {
				t.Errorf("processes %v are still in the scope", left)
			}
			stats := l.check(s)
			got, want := byCount(t, out, hits), map[string]int{"40": 40, "50": 50, "20": 0}
			var leaves int32
			if m := regexp.MustCompile(`leaves pid=(\d+)`).FindStringSubmatch(out); m != nil {
				_, err = fmt.Sscan(m[1], &leaves)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || len(hits) != 1 || hits[leaves] == 0 || err != nil {
				t.Errorf("hits %v, want %v; of others %v, want only %d's; the guest says %q", got, want, hits, leaves, out)
			}
			if execs != 1 {
				t.Errorf("%d programs executed by processes of that name, want 1", execs)
			}
			t.Logf("%+v", stats)
		})
	}
}

// What is not there, and what Xen does not have, is refused, and leaves nothing
// behind.
func TestLabScopeRefused(t *testing.T) {
	l := attach(t, labtest.Ordinary())
	g := cr3filter.Guest{Domain: l.dom, Monitor: l.mon, Frames: vmi.MapperFunc(l.dom.MapFrames), Kernel: l.kern, Loop: l.loop}
	for _, tt := range []struct {
		name string
		p    cr3filter.Process
		o    cr3filter.ScopeOptions
		want error
	}{
		{"no such process", cr3filter.Process{PID: 4 << 20}, cr3filter.ScopeOptions{}, cr3filter.ErrNoProcess},
		{"no such root", cr3filter.Process{Root: 0x7ffff000}, cr3filter.ScopeOptions{}, cr3filter.ErrNoProcess},
		{"a kernel thread", cr3filter.Process{PID: 2}, cr3filter.ScopeOptions{}, cr3filter.ErrNoProcess},
		{"no filter in Xen", cr3filter.Process{PID: 1}, cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{cr3filter.FilteredByXen}}, xen.ErrNotSupported},
	} {
		if labtest.PatchedXen(t) && errors.Is(tt.want, xen.ErrNotSupported) {
			continue
		}
		s, err := cr3filter.OpenScope(g, tt.p, &tt.o)
		if err == nil {
			err = s.Start()
			if cerr := s.Close(); cerr != nil {
				t.Error(cerr)
			}
			g.Loop = vmi.NewLoop(l.mon)
		}
		if !errors.Is(err, tt.want) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// toolVar makes the test binary a monitor that runs until it is killed.
const toolVar = "GOVMI_CR3FILTER_TOOL"

func TestMain(m *testing.M) {
	if pid := os.Getenv(toolVar); pid != "" {
		fmt.Println("tool:", tool(os.Args[len(os.Args)-1], pid))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func tool(domain, process string) error {
	hyp, err := xen.Open(nil)
	if err != nil {
		return err
	}
	dom, err := hyp.LookupDomain(domain)
	if err != nil {
		return err
	}
	regs, err := dom.AllRegisters()
	if err != nil {
		return err
	}
	kern, err := linux.Open(vmi.NewMemory(vmi.MapperFunc(dom.MapFrames), nil), regs)
	if err != nil {
		return err
	}
	mon, err := dom.OpenMonitor(nil)
	if err != nil {
		return err
	}
	loop := vmi.NewLoop(mon)
	var p cr3filter.Process
	if _, err := fmt.Sscan(process, &p.PID); err != nil {
		return err
	}
	s, err := cr3filter.OpenScope(cr3filter.Guest{
		Domain: dom, Monitor: mon, Frames: vmi.MapperFunc(dom.MapFrames), Kernel: kern, Loop: loop,
	}, p, nil)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- loop.Run(context.Background()) }()
	va, err := kern.Symbols().Lookup(getppid)
	if err != nil {
		return err
	}
	n := 0
	if _, err := s.Insert(va, func(*xen.Request, linux.Task) xen.Response {
		if n++; n == 100 {
			fmt.Println("hits")
		}
		return xen.Response{}
	}); err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	return <-done
}

// A scope whose program is killed leaves a guest that a recovery brings back, its
// kernel as it was and its process at work: the breakpoints were in a view only.
func TestLabScopeKilled(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("without altp2m the breakpoints of a killed monitor stay in the guest")
	}
	ctx := t.Context()
	g := labtest.SharedGuest(t, labtest.Ordinary())
	labtest.Intact(t, g)
	busy := g.Start(ctx, "exec workload busy -kinds getppid -spin 1000")
	for range labtest.Count(10) {
		cmd := exec.Command("/proc/self/exe", g.Name())
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", toolVar, busy.PID()))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 256)
		n, err := out.Read(line)
		if err != nil || !strings.HasPrefix(string(line[:n]), "hits") {
			t.Fatalf("the tool says %q, %v", line[:n], err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("the tool was not killed")
		}
		recoverGuest(t, g.Name())
		g.MustExec(ctx, "true")
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	if out, status := busy.Wait(ctx); status != 0 {
		t.Errorf("the guest's process ended with status %d: %s", status, out)
	}
}

func recoverGuest(t *testing.T, name string) {
	t.Helper()
	hyp, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer hyp.Close()
	dom, err := hyp.LookupDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	// The kernel takes a moment to release what the dead process held.
	for end := time.Now().Add(time.Minute); ; {
		err := dom.RecoverMonitor(&xen.RecoverOptions{AltP2MOff: true})
		if err == nil {
			return
		}
		if !errors.Is(err, xen.ErrBusy) || time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
