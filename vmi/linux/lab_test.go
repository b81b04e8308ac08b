//go:build lab

package linux_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
	"github.com/govmi/govmi/xen"
)

// eachKernel runs a test on a guest of each kernel that the lab was started
// with. The guest's kernel chose its own address, and has page tables of their
// own for user code. 5.10 does not survive those together with the return
// thunks that it uses on AMD's CPUs, which it cannot fetch from the user half.
func eachKernel(t *testing.T, test func(t *testing.T, g *labtest.Guest)) {
	pattern := path.Join(guest.KitDir, guest.KASLRFile("*"))
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no kernels for guests at %s: %v", pattern, err)
	}
	for _, f := range files {
		kernel := path.Base(path.Dir(f))
		t.Run(kernel, func(t *testing.T) {
			test(t, labtest.SharedGuest(t, guest.Spec{
				Name: "random-" + kernel, Kernel: kernel, KASLR: true,
				Cmdline: "pti=on spec_rstack_overflow=off retbleed=off",
			}))
		})
	}
}

func openDomain(t *testing.T, id xen.DomID) (*xen.Domain, *vmi.Memory) {
	t.Helper()
	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	d, err := h.Domain(id)
	if err != nil {
		t.Fatal(err)
	}
	mem := vmi.NewMemory(vmi.MapperFunc(d.MapFrames), nil)
	t.Cleanup(func() {
		if err := mem.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, mem
}

// registers returns those of all vCPUs.
func registers(t *testing.T, d *xen.Domain) []xen.Registers {
	t.Helper()
	regs, err := d.AllRegisters()
	if err != nil {
		t.Fatal(err)
	}
	return regs
}

func openKernel(t *testing.T, g *labtest.Guest) (*linux.Kernel, *xen.Domain) {
	t.Helper()
	d, mem := openDomain(t, g.DomID())
	start := time.Now()
	k, err := linux.Open(mem, registers(t, d))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kernel %s found in %v", k.Release(), time.Since(start))
	return k, d
}

// symbolsOf returns the guest's own list of its kernel's symbols.
func symbolsOf(t *testing.T, g *labtest.Guest) []linux.Symbol {
	t.Helper()
	out := g.MustExec(t.Context(), "workload kallsyms")
	m := regexp.MustCompile(`(?s)@kallsyms begin format=gzip count=(\d+)\n(.*)@kallsyms end`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no list in %d bytes of output", len(out))
	}
	packed, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, strings.NewReader(strings.ReplaceAll(m[2], "\n", ""))))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if strconv.Itoa(len(lines)) != m[1] {
		t.Fatalf("%d lines, the guest says %s", len(lines), m[1])
	}
	var syms []linux.Symbol
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) > 3 {
			continue // a module's
		}
		addr, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil || len(f) != 3 || len(f[1]) != 1 {
			t.Fatalf("line %q", l)
		}
		syms = append(syms, linux.Symbol{Addr: vmi.VirtAddr(addr), Type: f[1][0], Name: f[2]})
	}
	return syms
}

// TestLabKallsyms compares all symbols with the guest's /proc/kallsyms.
func TestLabKallsyms(t *testing.T) { eachKernel(t, testKallsyms) }

func testKallsyms(t *testing.T, g *labtest.Guest) {
	k, _ := openKernel(t, g)
	if got := strings.TrimSpace(g.MustExec(t.Context(), "uname -r")); got != k.Release() {
		t.Errorf("Release = %q, the guest says %q", k.Release(), got)
	}
	want := symbolsOf(t, g)
	got := slices.Collect(k.Symbols().All())
	t.Logf("%d symbols, _text at %v", len(want), want[slices.IndexFunc(want, func(s linux.Symbol) bool { return s.Name == "_text" })].Addr)
	if len(want) < 50_000 {
		t.Errorf("the guest lists only %d symbols", len(want))
	}
	if len(got) != len(want) {
		t.Errorf("%d symbols, the guest lists %d", len(got), len(want))
	}
	const shown = 20
	bad := 0
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			if bad++; bad <= shown {
				t.Errorf("symbol %d is %v %c %s, the guest says %v %c %s", i,
					got[i].Addr, got[i].Type, got[i].Name, want[i].Addr, want[i].Type, want[i].Name)
			}
		}
	}
	if bad > shown {
		t.Errorf("%d symbols in all are wrong", bad)
	}
	lowest := make(map[string]vmi.VirtAddr)
	for _, s := range slices.Backward(want) {
		lowest[s.Name] = s.Addr
	}
	for name, addr := range lowest {
		if got, err := k.Symbols().Lookup(name); err != nil || got != addr {
			t.Fatalf("Lookup(%q) = %v, %v, the guest says %v", name, got, err, addr)
		}
	}
}

func TestLabKPTI(t *testing.T) {
	check := func(t *testing.T, g *labtest.Guest, want bool) {
		k, _ := openKernel(t, g)
		_, status := g.Exec(t.Context(), "dmesg | grep -q 'page tables isolation: enabled'")
		if said := status == 0; said != want || k.KPTI() != want {
			t.Errorf("KPTI = %v, the guest's log says %v, its command line %v", k.KPTI(), said, want)
		}
	}
	eachKernel(t, func(t *testing.T, g *labtest.Guest) { check(t, g, true) })
	t.Run("off", func(t *testing.T) { check(t, labtest.StartGuest(t, guest.Spec{Cmdline: "pti=off"}), false) })
}

// process is a line of the guest's ps.
type process struct {
	PID     int32
	Threads int
	User    bool
	Comm    string
}

func processesOf(t *testing.T, out string) map[int32]process {
	t.Helper()
	all := make(map[int32]process)
	for _, m := range regexp.MustCompile(`(?m)^ps pid=(\d+) ppid=\d+ threads=(\d+) mm=(\w+) comm=(.*)$`).FindAllStringSubmatch(out, -1) {
		pid, _ := strconv.Atoi(m[1])
		threads, _ := strconv.Atoi(m[2])
		all[int32(pid)] = process{int32(pid), threads, m[3] == "user", m[4]}
	}
	if len(all) < 10 {
		t.Fatalf("the guest lists %d processes:\n%s", len(all), out)
	}
	return all
}

func processesIn(t *testing.T, k *linux.Kernel, d *xen.Domain) map[int32]process {
	t.Helper()
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Unpause(); err != nil {
			t.Error(err)
		}
	}()
	all := make(map[int32]process)
	for task, err := range k.Tasks() {
		if err != nil {
			t.Fatal(err)
		}
		pid, err1 := task.PID()
		tgid, err2 := task.TGID()
		comm, err3 := task.Comm()
		_, err4 := task.Root()
		p := process{PID: pid, User: err4 == nil, Comm: comm.String()}
		if errors.Is(err4, linux.ErrNoMM) {
			err4 = nil
		}
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		if pid != tgid {
			t.Errorf("process %d has its main thread in process %d", pid, tgid)
		}
		for th, err := range k.ThreadsOf(task) {
			if err != nil {
				t.Fatal(err)
			}
			if leader, err := th.GroupLeader(); err != nil || leader != task {
				t.Errorf("a thread of %d has another leader: %v, %v", pid, leader.Addr, err)
			}
			p.Threads++
		}
		if _, ok := all[pid]; ok {
			t.Errorf("pid %d twice", pid)
		}
		all[pid] = p
	}
	return all
}

// TestLabTasks compares the processes before and after the guest's own listing
// with it: what was there both times must be listed, and what is listed must
// have been there before or after, or be the listing itself.
func TestLabTasks(t *testing.T) { eachKernel(t, testTasks) }

func testTasks(t *testing.T, g *labtest.Guest) {
	k, d := openKernel(t, g)
	ctx := t.Context()
	c := g.Start(ctx, "workload calls -threads 4 -n 0 -wait /tmp/tasks-go")
	c.WaitLine(ctx, regexp.MustCompile(`calls ready pid=\d+`))

	before := processesIn(t, k, d)
	ps := g.Start(ctx, "workload ps")
	out, status := ps.Wait(ctx)
	after := processesIn(t, k, d)
	if status != 0 {
		t.Fatalf("ps: status %d: %s", status, out)
	}
	listed := processesOf(t, out)
	for pid, w := range listed {
		got, ok := before[pid]
		if !ok {
			got, ok = after[pid]
		}
		if !ok {
			if pid != int32(ps.PID()) && w.Comm != "workload" && w.Comm != "bash" && !strings.HasPrefix(w.Comm, "kworker") {
				t.Errorf("process %+v is not in the kernel's list", w)
			}
			continue
		}
		// A kernel thread's name in /proc can be longer than its comm.
		if !w.User && strings.HasPrefix(w.Comm, got.Comm) && len(got.Comm) == 15 || strings.HasPrefix(w.Comm, "kworker") {
			w.Comm = got.Comm
		}
		if got != w && before[pid] == after[pid] {
			t.Errorf("process is %+v, the guest says %+v", got, w)
		}
	}
	for pid, p := range before {
		if _, ok := listed[pid]; !ok && after[pid] == p {
			t.Errorf("process %+v is not in the guest's list", p)
		}
	}
	workload := before[int32(c.PID())]
	if workload.Comm != "workload" || !workload.User || workload.Threads < 5 {
		t.Errorf("the workload is %+v", workload)
	}
	t.Logf("%d processes", len(before))

	// By name and by thread.
	found, err := k.TasksByComm("workload")
	if err != nil || len(found) != 1 {
		t.Errorf("TasksByComm = %v, %v", found, err)
	}
	tids := strings.Fields(g.MustExec(ctx, fmt.Sprintf("ls /proc/%d/task", c.PID())))
	for _, tid := range tids {
		n, err := strconv.Atoi(tid)
		if err != nil {
			t.Fatal(err)
		}
		task, err := k.TaskByPID(int32(n))
		if err != nil {
			t.Error(err)
			continue
		}
		if tgid, err := task.TGID(); err != nil || int(tgid) != c.PID() {
			t.Errorf("thread %d is in process %d, %v", n, tgid, err)
		}
	}
	if _, err := k.TaskByPID(1 << 21); !errors.Is(err, linux.ErrNoTask) {
		t.Errorf("TaskByPID of none: %v", err)
	}
	g.MustExec(ctx, "touch /tmp/tasks-go")
	if _, status := c.Wait(ctx); status != 0 {
		t.Errorf("workload: status %d", status)
	}
	g.MustExec(ctx, "rm /tmp/tasks-go")
}

// TestLabRoot reads a process's arguments through the page tables found by its
// pid.
func TestLabRoot(t *testing.T) { eachKernel(t, testRoot) }

func testRoot(t *testing.T, g *labtest.Guest) {
	k, _ := openKernel(t, g)
	ctx := t.Context()
	c := g.Start(ctx, "workload calls -n 0 -wait /tmp/root-go")
	c.WaitLine(ctx, regexp.MustCompile(`calls ready pid=\d+`))
	task, err := k.TaskByPID(int32(c.PID()))
	if err != nil {
		t.Fatal(err)
	}
	root, err := task.Root()
	if err != nil {
		t.Fatal(err)
	}
	// Fields 48 and 49 of stat are the addresses of the arguments.
	stat := strings.Fields(g.MustExec(ctx, fmt.Sprintf("cat /proc/%d/stat", c.PID())))
	start, err1 := strconv.ParseUint(stat[47], 10, 64)
	end, err2 := strconv.ParseUint(stat[48], 10, 64)
	if err := errors.Join(err1, err2); err != nil || end <= start || end-start > 4096 {
		t.Fatalf("stat: %v, %v", stat, err)
	}
	got := make([]byte, end-start)
	if _, err := k.AddressSpace().WithRoot(root).Read(vmi.VirtAddr(start), got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("workload\x00calls\x00-n\x000\x00-wait\x00/tmp/root-go\x00", string(got)); d != "" {
		t.Error(d)
	}
	g.MustExec(ctx, "touch /tmp/root-go")
	if _, status := c.Wait(ctx); status != 0 {
		t.Errorf("workload: status %d", status)
	}
	g.MustExec(ctx, "rm /tmp/root-go")
	if _, err := k.TaskByPID(int32(c.PID())); !errors.Is(err, linux.ErrNoTask) {
		t.Errorf("TaskByPID after its end: %v", err)
	}
}

// TestLabCurrentTask samples the vCPU while one process burns CPU.
func TestLabCurrentTask(t *testing.T) { eachKernel(t, testCurrentTask) }

func testCurrentTask(t *testing.T, g *labtest.Guest) {
	k, d := openKernel(t, g)
	ctx := t.Context()
	c := g.Start(ctx, "workload busy")
	c.WaitLine(ctx, regexp.MustCompile(`busy ready pid=\d+`))

	type seen struct{ busy, user, kernel int }
	var got seen
	const samples = 200
	for range samples {
		sample := func() {
			if err := d.Pause(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := d.Unpause(); err != nil {
					t.Fatal(err)
				}
			}()
			r, err := d.Registers(0)
			if err != nil {
				t.Fatal(err)
			}
			task, err := k.CurrentTask(r)
			if err != nil {
				t.Fatalf("at RIP %#x with GS %#x and %#x: %v", r.RIP, r.GS.Base, r.ShadowGS, err)
			}
			pid, err := task.PID()
			if err != nil {
				t.Fatal(err)
			}
			if tgid, err := task.TGID(); err != nil {
				t.Fatal(err)
			} else if int(tgid) == c.PID() { // any of its threads
				got.busy++
			}
			if pid != 0 {
				if again, err := k.TaskByPID(pid); err != nil || again != task {
					t.Errorf("the running task %d at %v is not in the lists: %v, %v", pid, task.Addr, again.Addr, err)
				}
			}
			if r.CPL() != 3 {
				got.kernel++
				return
			}
			got.user++
			root, err := task.Root()
			// User code runs on the process's root, under KPTI with bit 12 set.
			want := vmi.PhysAddr(root)
			if k.KPTI() {
				want |= 0x1000
			}
			if err != nil || vmi.CR3(r.CR3).Root() != want {
				t.Errorf("task %d has root %v, %v, but CR3 is %#x", pid, root, err, r.CR3)
			}
		}
		sample()
		time.Sleep(2 * time.Millisecond) // let the guest go on
	}
	t.Logf("%d samples: %+v", samples, got)
	if got.busy < samples/2 || got.user == 0 || got.kernel == 0 {
		t.Errorf("of %d samples: %+v", samples, got)
	}
	g.MustExec(ctx, fmt.Sprintf("kill %d", c.PID()))
	c.Wait(ctx)
}

func TestLabSyscalls(t *testing.T) { eachKernel(t, testSyscalls) }

func testSyscalls(t *testing.T, g *labtest.Guest) {
	k, _ := openKernel(t, g)
	table, err := k.Syscalls()
	if err != nil {
		t.Fatal(err)
	}
	if table.Source != linux.FromMetadata || table.Len() < 440 {
		t.Errorf("%d system calls from %s", table.Len(), table.Source)
	}
	for name, nr := range map[string]int{
		"read": syscall.SYS_READ, "stat": syscall.SYS_STAT, "uname": syscall.SYS_UNAME, "openat": syscall.SYS_OPENAT,
		"umount2": syscall.SYS_UMOUNT2, "sendfile": syscall.SYS_SENDFILE, "exit_group": syscall.SYS_EXIT_GROUP,
	} {
		c, ok := table.Name(name)
		if !ok || c.Number != nr {
			t.Errorf("%s is %+v, want number %d", name, c, nr)
			continue
		}
		if sym, off, ok := k.Symbols().At(c.Entry); !ok || off != 0 || !strings.HasPrefix(c.EntrySymbol, "__x64_sys_") {
			t.Errorf("%s enters at %+v+%d, %q", name, sym, off, c.EntrySymbol)
		}
	}
	// The guest's tracing knows the parameters as well.
	formats := g.MustExec(t.Context(), "mkdir -p /tmp/tracefs; mount -t tracefs tracefs /tmp/tracefs;"+
		" for f in openat read exit_group newfstat; do echo \"format $f\"; cat /tmp/tracefs/events/syscalls/sys_enter_$f/format; done; umount /tmp/tracefs")
	field := regexp.MustCompile(`field:(.*?)(\w+);\toffset:(\d+)`)
	for part := range strings.SplitSeq(formats, "format ") {
		name, _, _ := strings.Cut(part, "\n")
		name = strings.Replace(strings.TrimSpace(name), "newfstat", "fstat", 1)
		var want []linux.SyscallArg
		for _, m := range field.FindAllStringSubmatch(part, -1) {
			if off, _ := strconv.Atoi(m[3]); off >= 16 {
				want = append(want, linux.SyscallArg{Name: m[2], Type: strings.TrimSpace(m[1])})
			}
		}
		c, ok := table.Name(name)
		if name == "" {
			continue
		}
		if !ok || len(want) == 0 {
			t.Errorf("%s: %+v, the guest says %v", name, c, want)
			continue
		}
		if d := cmp.Diff(want, c.Args); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestLabConsistent reads the guest's clock, which stands still while the guest does.
func TestLabConsistent(t *testing.T) {
	eachKernel(t, func(t *testing.T, g *labtest.Guest) {
		k, d := openKernel(t, g)
		va, err := k.Symbols().Lookup("jiffies")
		if err != nil {
			t.Fatal(err)
		}
		clock := func() uint64 {
			t.Helper()
			v, err := k.AddressSpace().Uint64(va)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		pass := func() (from, to uint64) {
			from = clock()
			time.Sleep(200 * time.Millisecond)
			return from, clock()
		}
		ctx := t.Context()
		busy := g.Start(ctx, "exec workload busy") // an idle guest has no tick
		busy.WaitLine(ctx, regexp.MustCompile(`busy ready pid=\d+`))
		if from, to := pass(); from == to {
			t.Errorf("the guest's clock stands still at %d", from)
		}
		if err := k.AddressSpace().Memory().Consistent(d, func() error {
			if from, to := pass(); from != to {
				t.Errorf("the guest's clock went from %d to %d", from, to)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if from, to := pass(); from == to {
			t.Errorf("the guest's clock stands still afterwards, at %d", from)
		}
		g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
		if out, status := busy.Wait(ctx); status != 0 {
			t.Errorf("the guest's process ended with status %d: %s", status, out)
		}
	})
}

// TestLabBooting opens a guest that has not run, and again and again while it
// boots.
func TestLabBooting(t *testing.T) {
	g := labtest.CreatePaused(t, guest.Spec{KASLR: true})
	d, mem := openDomain(t, g.DomID())
	if _, err := linux.Open(mem, registers(t, d)); !errors.Is(err, linux.ErrBooting) {
		t.Errorf("Open of a guest that has not run: %v", err)
	}
	g.Unpause(t.Context())
	ready := make(chan error, 1)
	go func() { ready <- g.WaitReady(t.Context()) }()
	other := make(map[string]int)
	tries := 0
	for done := false; !done; {
		select {
		case err := <-ready:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		case <-time.After(50 * time.Millisecond):
		}
		tries++
		k, err := linux.Open(mem, registers(t, d))
		switch {
		case err == nil:
			if _, err := k.Symbols().Lookup("init_task"); err != nil {
				t.Error(err)
			}
		case !errors.Is(err, linux.ErrBooting):
			other[err.Error()]++
		}
		if done && err != nil {
			t.Errorf("Open of a guest that is up: %v", err)
		}
	}
	t.Logf("%d tries", tries)
	for msg, n := range other {
		t.Errorf("%d times while booting: %s", n, msg)
	}
}
