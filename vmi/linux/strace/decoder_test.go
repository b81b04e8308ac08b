package strace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is user memory by address.
type memory map[uint64]string

func (m memory) Read(addr uint64, p []byte) (int, error) {
	for base, data := range m {
		if addr >= base && addr-base+uint64(len(p)) <= uint64(len(data)) {
			return copy(p, data[addr-base:]), nil
		}
	}
	return 0, errUnmapped
}

// page returns s followed by NULs up to a page, as a string in memory is.
func page(s string) string { return s + strings.Repeat("\x00", pageSize-len(s)) }

func le64(vs ...uint64) string {
	var b strings.Builder
	for _, v := range vs {
		for i := range 8 {
			b.WriteByte(byte(v >> (8 * i)))
		}
	}
	return b.String()
}

func TestLine(t *testing.T) {
	const at = 0x7f0000001000
	many := strings.Repeat("x", 40)
	tests := []struct {
		name        string
		nr          uint64
		args        [6]uint64
		sp          uint64
		ret         int64
		entry, exit memory
		want        string
	}{
		{
			name: "path", nr: 257, args: [6]uint64{1<<64 - 100, at, 0}, ret: 3, entry: memory{at: page("/etc/hostname")},
			want: `openat(AT_FDCWD, "/etc/hostname", O_RDONLY) = 3`,
		},
		{
			name: "path not readable until exit", nr: 257, args: [6]uint64{0xffffff9c, at, 0}, ret: -2, exit: memory{at: page("/etc/none")},
			want: `openat(AT_FDCWD, "/etc/none", O_RDONLY) = -1 ENOENT (No such file or directory)`,
		},
		{
			name: "path never readable", nr: 257, args: [6]uint64{0xffffff9c, at, 0}, ret: -14,
			want: `openat(AT_FDCWD, 0x7f0000001000, O_RDONLY) = -1 EFAULT (Bad address)`,
		},
		{
			name: "long path in full", nr: 80, args: [6]uint64{at}, entry: memory{at: page(strings.Repeat("/dir", 100))},
			want: `chdir("` + strings.Repeat("/dir", 100) + `") = 0`,
		},
		{
			name: "path at the end of mapped memory", nr: 80, args: [6]uint64{at + pageSize - 5}, entry: memory{at: strings.Repeat("q", pageSize-5) + "/tmp\x00"},
			want: `chdir("/tmp") = 0`,
		},
		{
			name: "path without end", nr: 80, args: [6]uint64{at}, ret: -36, entry: memory{at: strings.Repeat("z", 3*pageSize)},
			want: `chdir("` + strings.Repeat("z", maxPath) + `"...) = -1 ENAMETOOLONG (File name too long)`,
		},
		{
			name: "read", nr: 0, args: [6]uint64{3, at, 4096}, ret: 7, exit: memory{at: page("debian\n")},
			want: `read(3, "debian\n", 4096) = 7`,
		},
		{
			name: "failed read", nr: 0, args: [6]uint64{3, at, 4096}, ret: -11, exit: memory{at: page("old")},
			want: `read(3, 0x7f0000001000, 4096) = -1 EAGAIN (Resource temporarily unavailable)`,
		},
		{
			name: "restarted", nr: 0, args: [6]uint64{0, at, 1}, ret: -512,
			want: `read(0, 0x7f0000001000, 1) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)`,
		},
		{name: "no interrupt", nr: 34, ret: -513, want: `pause() = ? ERESTARTNOINTR (To be restarted)`},
		{name: "no handler", nr: 34, ret: -514, want: `pause() = ? ERESTARTNOHAND (To be restarted if no handler)`},
		{
			name: "restart block with the time left", nr: 35, args: [6]uint64{at, at + 16}, ret: -516,
			entry: memory{at: le64(5, 0)}, exit: memory{at: le64(5, 0, 3, 21)},
			want: `nanosleep({tv_sec=5, tv_nsec=0}, {tv_sec=3, tv_nsec=21}) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)`,
		},
		{name: "unnamed error", nr: 39, ret: -4000, want: `getpid() = -1 (errno 4000)`},
		{
			name: "cut", nr: 1, args: [6]uint64{1, at, 40}, ret: 40, entry: memory{at: page(many)},
			want: `write(1, "` + many[:32] + `"..., 40) = 40`,
		},
		{name: "huge length", nr: 1, args: [6]uint64{1, at, 1 << 63}, ret: -14, want: `write(1, 0x7f0000001000, 9223372036854775808) = -1 EFAULT (Bad address)`},
		{
			name: "execve keeps what was read at entry", nr: 59, args: [6]uint64{at, at + pageSize, at + pageSize + 32},
			entry: memory{at: page("/bin/ls\x00-l\x00A=1"), at + pageSize: page(le64(at, at+8, 0, 0, at+11, 0))}, exit: memory{},
			want: `execve("/bin/ls", ["/bin/ls", "-l"], 0x7f0000002020 /* 1 var */) = 0`,
		},
		{
			name: "execve does not read the new image for the old", nr: 59, args: [6]uint64{at, 0, 0},
			exit: memory{at: page("new image")},
			want: `execve(0x7f0000001000, NULL, NULL) = 0`,
		},
		{
			name: "rt_sigreturn", nr: 15, sp: at, ret: -4, entry: memory{at + sigcontextMask: le64(1 << 1)},
			want: `rt_sigreturn({mask=[INT]}) = -4`,
		},
		{name: "no name", nr: 500, args: [6]uint64{1, 2}, ret: -38, want: `syscall_0x1f4(0x1, 0x2, 0, 0, 0, 0) = -1 ENOSYS (Function not implemented)`},
		{name: "absurd number", nr: 1 << 63, ret: -38, want: `syscall_0x8000000000000000(0, 0, 0, 0, 0, 0) = -1 ENOSYS (Function not implemented)`},
		{name: "brk's value is an address, small or not", nr: 12, ret: -4, want: `brk(NULL) = 0xfffffffffffffffc`},
	}
	d := NewDecoder(nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rc := &recordedCall{Regs: Registers{Nr: tt.nr, Args: tt.args, SP: tt.sp}, Ret: tt.ret}
			if tt.exit == nil {
				tt.exit = tt.entry
			}
			if diff := cmp.Diff(tt.want, line(d, rc, tt.entry, tt.exit)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestGeneric shows calls that are known only through the guest's metadata.
func TestGeneric(t *testing.T) {
	d := NewDecoder([]Syscall{
		{Nr: 7, Name: "frobnicate", Params: []Param{{"dfd", "int"}, {"filename", "const char *"}, {"mode", "umode_t"}, {"ts", "const struct __kernel_timespec *"}, {"flags", "unsigned int"}, {"len", "size_t"}}},
		{Nr: 8, Name: "newfstat", Params: []Param{{"fd", "unsigned int"}, {"statbuf", "struct stat *"}}},
		{Nr: 9, Name: "bare"},
		{Nr: 10, Name: "nothing", Params: []Param{}},
		{Nr: 11, Name: "pointers", Params: []Param{{"argv", "const char __user *const __user *"}, {"p", "void __user *"}, {"name", "char __user *"}, {"sig", "int"}, {"off", "loff_t"}, {"addr", "unsigned long"}}},
		{Nr: MaxNr, Name: "beyond"},
	})
	mem := memory{0x1000: page("file"), 0x2000: le64(1, 2)}
	tests := []struct {
		regs Registers
		want string
	}{
		{Registers{Nr: 7, Args: [6]uint64{0xffffff9c, 0x1000, 0o644, 0x2000, 0x10, 99}}, `frobnicate(AT_FDCWD, "file", 0644, {tv_sec=1, tv_nsec=2}, 0x10, 99) = 0`},
		{Registers{Nr: 8, Args: [6]uint64{3}}, `fstat(3, NULL) = 0`},
		{Registers{Nr: 9}, `bare(0, 0, 0, 0, 0, 0) = 0`},
		{Registers{Nr: 10}, `nothing() = 0`},
		{Registers{Nr: 11, Args: [6]uint64{0x2000, 0, 0x1000, 2, 1 << 63, 0x30}}, `pointers(0x2000, NULL, 0x1000, SIGINT, -9223372036854775808, 0x30) = 0`},
		{Registers{Nr: MaxNr}, `syscall_0x1000(0, 0, 0, 0, 0, 0) = 0`},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, line(d, &recordedCall{Regs: tt.regs}, mem, mem)); diff != "" {
			t.Error(diff)
		}
	}
}

// TestSpecsFit makes sure that no form needs more arguments than a call can
// keep, and that every name is one of the ABI's.
func TestSpecsFit(t *testing.T) {
	abi := map[string]bool{}
	for _, c := range abiCalls() {
		abi[Name(c.Name)] = true
	}
	var c Call
	for name, sp := range specs {
		if n := len(sp.args); n > len(c.spans) {
			t.Errorf("%s: %d arguments", name, n)
		}
		if !abi[name] && name != "fchmodat2" {
			t.Errorf("%s is no call of the ABI", name)
		}
	}
}

func TestAllocations(t *testing.T) {
	mem := memory{0x1000: page("/etc/hostname")}
	d := NewDecoder(nil)
	var c Call
	run := func() {
		d.Entry(&c, Registers{Nr: 257, Args: [6]uint64{0xffffff9c, 0x1000, 0}}, mem)
		d.Exit(&c, 3, mem)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations per call", n)
	}
}

func BenchmarkOpenat(b *testing.B) {
	b.ReportAllocs()
	mem := memory{0x1000: page("/etc/hostname")}
	d := NewDecoder(nil)
	var c Call
	for b.Loop() {
		d.Entry(&c, Registers{Nr: 257, Args: [6]uint64{0xffffff9c, 0x1000, 0}}, mem)
		d.Exit(&c, 3, mem)
	}
}

// noisy is memory in which every page that lies in the lower half exists and
// holds bytes made from the seed.
type noisy struct {
	seed  []byte
	bytes int
}

func (m *noisy) Read(addr uint64, p []byte) (int, error) {
	m.bytes += len(p)
	if addr>>47 != 0 || len(m.seed) == 0 {
		return 0, fmt.Errorf("%#x: %w", addr, errUnmapped)
	}
	for i := range p {
		p[i] = m.seed[(addr+uint64(i))%uint64(len(m.seed))]
	}
	return len(p), nil
}

// FuzzDecode feeds the decoder arbitrary registers and memory: it must not
// panic and must stay within its bounds.
func FuzzDecode(f *testing.F) {
	for nr := range uint64(len(abiNames)) {
		f.Add(nr, uint64(1), uint64(0x1000), uint64(0x2000), uint64(64), uint64(0x3000), uint64(8), int64(5), []byte("ab\x00\x01\x10"))
	}
	f.Add(uint64(59), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), int64(-514), []byte{0xff})
	d := NewDecoder(nil)
	f.Fuzz(func(t *testing.T, nr, a0, a1, a2, a3, a4, a5 uint64, ret int64, seed []byte) {
		m := &noisy{seed: seed}
		var c Call
		d.Entry(&c, Registers{Nr: nr, Args: [6]uint64{a0, a1, a2, a3, a4, a5}, SP: a5}, m)
		text := c.AppendEntry(nil)
		d.Exit(&c, ret, m)
		text = c.AppendResult(c.AppendRest(text))
		if m.bytes > 2<<20 {
			t.Errorf("%s read %d bytes", c.Name(), m.bytes)
		}
		if len(text) > 4*maxText {
			t.Errorf("%s made %d bytes of text", c.Name(), len(text))
		}
	})
}
