package linux_test

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi/linux"
)

// procfs is a guest's own /proc, by the files' names in it.
type procfs struct {
	files map[string]string
	self  int32 // the process that printed it
}

// readProc reads a gzipped tar archive of them.
func readProc(t *testing.T, r io.Reader, self int) procfs {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	p := procfs{files: make(map[string]string), self: int32(self)}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return p
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		p.files[h.Name] = string(b)
	}
}

// match returns the files whose names match, by what of the name's parts matches
// a star.
func (p procfs) match(t *testing.T, pattern string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for name, text := range p.files {
		if ok, err := path.Match(pattern, name); err != nil {
			t.Fatal(err)
		} else if ok {
			all[name] = text
		}
	}
	return all
}

// described is a process as /proc/PID has it.
type described struct {
	linux.Process
	Args, Env []string
}

// stat parses /proc/PID/stat; the comm in it may have spaces and parentheses.
func stat(t *testing.T, text string) (pid int32, comm string, fields []string) {
	t.Helper()
	left, right := strings.Index(text, "("), strings.LastIndex(text, ")")
	n, err := strconv.ParseInt(strings.TrimSpace(text[:max(left, 0)]), 10, 32)
	if err != nil || right < left {
		t.Fatalf("stat %q: %v", text, err)
	}
	// fields[0] is the third of proc_pid_stat(5).
	return int32(n), text[left+1 : right], strings.Fields(text[right+1:])
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// statusFields returns the lines of /proc/PID/status.
func statusFields(text string) map[string][]string {
	all := make(map[string][]string)
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		all[name] = strings.Fields(rest)
	}
	return all
}

// ids are those of a line of /proc/PID/status: real, effective, saved, of files.
func ids(t *testing.T, fields []string) (all [4]uint32) {
	t.Helper()
	if len(fields) != 4 {
		t.Fatalf("ids %q", fields)
	}
	for i, f := range fields {
		all[i] = uint32(number(t, f))
	}
	return all
}

// clockTick is a unit of the times in /proc (USER_HZ).
const clockTick = 10 * time.Millisecond

func (p procfs) describe(t *testing.T, name string) described {
	t.Helper()
	pid, comm, f := stat(t, p.files[name+"/stat"])
	status := statusFields(p.files[name+"/status"])
	u, g := ids(t, status["Uid"]), ids(t, status["Gid"])
	d := described{Process: linux.Process{
		PID: pid, TGID: int32(number(t, status["Tgid"][0])),
		Comm: comm, State: linux.State(f[0][0]), Parent: int32(number(t, f[1])),
		Group: int32(number(t, f[2])), Session: int32(number(t, f[3])),
		Threads: int(number(t, f[17])), Kernel: number(t, f[6])&0x200000 != 0,
		Start: time.Duration(number(t, f[19])) * clockTick,
		Credentials: linux.Credentials{
			UID: u[0], EUID: u[1], SUID: u[2], FSUID: u[3],
			GID: g[0], EGID: g[1], SGID: g[2], FSGID: g[3],
		},
	}}
	d.Args, d.Env = words(p.files[name+"/cmdline"]), words(p.files[name+"/environ"])
	return d
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\x00"), "\x00")
}

// testProcesses compares processes with their credentials, states, arguments and
// environments.
func testProcesses(t *testing.T, k *linux.Kernel, p procfs) {
	want := make(map[int32]described)
	for name := range p.match(t, "*/stat") {
		d := p.describe(t, path.Dir(name))
		want[d.PID] = d
	}
	got := make(map[int32]described)
	for info, err := range k.Processes() {
		if err != nil {
			t.Fatal(err)
		}
		d := described{Process: info}
		if d.Args, err = info.Task.Args(); err != nil {
			t.Errorf("arguments of %d: %v", info.PID, err)
		}
		if d.Env, err = info.Task.Env(); err != nil {
			t.Errorf("environment of %d: %v", info.PID, err)
		}
		if _, ok := got[info.PID]; ok {
			t.Errorf("process %d twice", info.PID)
		}
		got[info.PID] = d
	}
	if len(want) < 10 {
		t.Errorf("the guest lists %d processes", len(want))
	}
	seen := make(map[linux.State]int)
	for pid, w := range want {
		g, ok := got[pid]
		if !ok {
			t.Errorf("process %d (%s) is missing", pid, w.Comm)
			continue
		}
		seen[g.State]++
		g.Start = g.Start.Truncate(clockTick)
		g.Task = linux.Task{}
		if pid == p.self { // it ran then, and waits now
			w.State = g.State
			w.Threads = g.Threads
		}
		if w.Kernel { // a worker's name in /proc tells its work, and what it did then has ended
			w.Comm, w.State = g.Comm, g.State
		}
		if diff := cmp.Diff(w, g, cmp.AllowUnexported(linux.Task{})); diff != "" {
			t.Errorf("process %d (-guest +read): %s", pid, diff)
		}
	}
	for pid, g := range got {
		if _, ok := want[pid]; !ok {
			t.Errorf("process %d (%s) is not in /proc", pid, g.Comm)
		}
	}
	t.Logf("%d processes, states %v", len(got), seen)
	for _, s := range "STZI" {
		if seen[linux.State(s)] == 0 {
			t.Errorf("no process in state %c", s)
		}
	}
}
