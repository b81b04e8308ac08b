package linux_test

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// testProc compares everything.
func testProc(t *testing.T, k *linux.Kernel, p procfs) {
	t.Run("processes", func(t *testing.T) { testProcesses(t, k, p) })
	t.Run("modules", func(t *testing.T) { testModules(t, k, p) })
	t.Run("module symbols", func(t *testing.T) { testModuleSymbols(t, k, p) })
	t.Run("log", func(t *testing.T) { testLog(t, k, p) })
	t.Run("mounts", func(t *testing.T) { testMounts(t, k, p) })
	t.Run("maps", func(t *testing.T) { testMaps(t, k, p) })
	t.Run("files", func(t *testing.T) { testFiles(t, k, p) })
	t.Run("namespaces", func(t *testing.T) { testNamespaces(t, k, p) })
	t.Run("interfaces", func(t *testing.T) { testInterfaces(t, k, p) })
	t.Run("sockets", func(t *testing.T) { testSockets(t, k, p) })
	t.Run("probes", func(t *testing.T) { testProbes(t, k, p) })
	t.Run("check", func(t *testing.T) {
		for _, f := range collect(t, k.Check()) {
			t.Errorf("found %+v", f)
		}
	})
}

// collect gathers a list that has no error.
func collect[T any](t *testing.T, items iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for item, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item)
	}
	return all
}

func hex(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eachUser calls f for the processes that have user memory, in order.
func (p procfs) eachUser(t *testing.T, k *linux.Kernel, f func(dir string, task linux.Task)) {
	t.Helper()
	n := 0
	for _, info := range collect(t, k.Processes()) {
		dir := fmt.Sprint(info.PID)
		if _, ok := p.files[dir+"/stat"]; !ok || info.Kernel || info.State == 'Z' {
			continue
		}
		f(dir, info.Task)
		n++
	}
	if n < 3 {
		t.Errorf("%d processes of users", n)
	}
}

func testModules(t *testing.T, k *linux.Kernel, p procfs) {
	var want []linux.Module
	for line := range strings.Lines(p.files["modules"]) {
		f := strings.Fields(line) // name size refs users state address
		m := linux.Module{
			Name: f[0], Size: uint64(number(t, f[1])), Refs: int(number(t, f[2])),
			State: linux.ModuleState(f[4]), Base: vmi.VirtAddr(hex(t, f[5])),
		}
		if f[3] != "-" {
			m.UsedBy = strings.Split(strings.TrimSuffix(f[3], ","), ",")
		}
		want = append(want, m)
	}
	got := collect(t, k.Modules())
	for i := range got {
		if len(got[i].Ranges) == 0 || got[i].Ranges[0].Start != got[i].Base {
			t.Errorf("module %s is at %v and has %v", got[i].Name, got[i].Base, got[i].Ranges)
		}
		got[i].Addr, got[i].Ranges = 0, nil
	}
	if d := gocmp.Diff(want, got); d != "" || len(want) < 4 {
		t.Errorf("%d modules (-guest +read): %s", len(want), d)
	}
}

func testModuleSymbols(t *testing.T, k *linux.Kernel, p procfs) {
	want, got := make(map[string]int), make(map[string]int)
	for line := range strings.Lines(p.files["modsyms"]) {
		f := strings.Fields(line)
		f[1] = strings.ToLower(f[1]) // upper case: other modules may use it
		want[strings.Join(f, " ")]++
	}
	for _, m := range collect(t, k.Modules()) {
		for _, s := range collect(t, k.ModuleSymbols(m)) {
			got[fmt.Sprintf("%016x %s %s [%s]", uint64(s.Addr), strings.ToLower(string(rune(s.Type))), s.Name, m.Name)]++
		}
	}
	if d := gocmp.Diff(want, got); d != "" || len(want) < 50 {
		t.Errorf("%d symbols (-guest +read): %s", len(want), d)
	}
}

// unescape undoes what /dev/kmsg does to bytes that cannot be printed.
func unescape(s string) string {
	return regexp.MustCompile(`\\x[0-9a-f]{2}`).ReplaceAllStringFunc(s, func(x string) string {
		n, _ := strconv.ParseUint(x[2:], 16, 8) // as the expression says
		return string([]byte{byte(n)})
	})
}

func testLog(t *testing.T, k *linux.Kernel, p procfs) {
	var want []linux.LogRecord
	for line := range strings.Lines(p.files["kmsg"]) {
		line = strings.TrimSuffix(line, "\n")
		if name, value, ok := strings.Cut(line, "="); ok && line[0] == ' ' {
			last := &want[len(want)-1]
			switch name {
			case " SUBSYSTEM":
				last.Subsystem = value
			case " DEVICE":
				last.Device = value
			}
			continue
		}
		head, text, _ := strings.Cut(line, ";")
		f := strings.Split(head, ",")
		prio := number(t, f[0])
		want = append(want, linux.LogRecord{
			Seq: uint64(number(t, f[1])), Time: time.Duration(number(t, f[2])) * time.Microsecond,
			Level: uint8(prio & 7), Facility: uint8(prio >> 3), Text: unescape(text),
		})
	}
	got := collect(t, k.Log())
	for i := range got {
		got[i].Time = got[i].Time.Truncate(time.Microsecond)
	}
	// What the kernel said since.
	got = got[:min(len(got), len(want))]
	if d := gocmp.Diff(want, got); d != "" || len(want) < 50 {
		t.Errorf("%d messages (-guest +read): %s", len(want), d)
	}
}

// octal undoes how /proc writes spaces and the like in names.
func octal(s string) string {
	return regexp.MustCompile(`\\[0-7]{3}`).ReplaceAllStringFunc(s, func(x string) string {
		n, _ := strconv.ParseUint(x[1:], 8, 8) // as the expression says
		return string([]byte{byte(n)})
	})
}

func device(t *testing.T, s string, base int) linux.Device {
	t.Helper()
	major, minor, _ := strings.Cut(s, ":")
	a, err1 := strconv.ParseUint(major, base, 32)
	b, err2 := strconv.ParseUint(minor, base, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return linux.Device{Major: uint32(a), Minor: uint32(b)}
}

func testMounts(t *testing.T, k *linux.Kernel, p procfs) {
	total := 0
	for _, info := range collect(t, k.Processes()) {
		text := p.files[fmt.Sprint(info.PID, "/mountinfo")]
		if text == "" || info.State == 'Z' {
			continue
		}
		want := mountinfo(t, text)
		got := collect(t, info.Task.Mounts())
		// Not in mountinfo: what is mounted on nothing.
		got = slices.DeleteFunc(got, func(m linux.Mount) bool { return m.ID == m.Parent && m.Type == "rootfs" && !has(want, m.ID) })
		for _, list := range [][]linux.Mount{want, got} {
			slices.SortFunc(list, func(a, b linux.Mount) int { return cmp.Compare(a.ID, b.ID) })
		}
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("process %d has %d mounts (-guest +read): %s", info.PID, len(want), d)
		}
		total += len(want)
	}
	if total < 100 {
		t.Errorf("%d mounts in all processes", total)
	}
}

// mountinfo parses /proc/PID/mountinfo.
func mountinfo(t *testing.T, text string) (all []linux.Mount) {
	t.Helper()
	for line := range strings.Lines(text) {
		left, right, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f, fs := strings.Fields(left), strings.Fields(right)
		options := strings.Split(f[5]+","+fs[2], ",")
		all = append(all, linux.Mount{
			ID: int(number(t, f[0])), Parent: int(number(t, f[1])), Device: device(t, f[2], 10),
			Root: octal(f[3]), Point: octal(f[4]), Type: fs[0], Source: octal(fs[1]),
			ReadOnly: slices.Contains(options, "ro"), NoSuid: slices.Contains(options, "nosuid"),
			NoDev: slices.Contains(options, "nodev"), NoExec: slices.Contains(options, "noexec"),
		})
	}
	return all
}

func has(ms []linux.Mount, id int) bool {
	return slices.ContainsFunc(ms, func(m linux.Mount) bool { return m.ID == id })
}

func testMaps(t *testing.T, k *linux.Kernel, p procfs) {
	line := regexp.MustCompile(`(?m)^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+) (\d+) *(.*)$`)
	total := 0
	p.eachUser(t, k, func(dir string, task linux.Task) {
		var want []linux.Map
		for _, m := range line.FindAllStringSubmatch(p.files[dir+"/maps"], -1) {
			if m[7] == "[vsyscall]" {
				continue
			}
			want = append(want, linux.Map{
				Start: vmi.VirtAddr(hex(t, m[1])), End: vmi.VirtAddr(hex(t, m[2])),
				Read: m[3][0] == 'r', Write: m[3][1] == 'w', Execute: m[3][2] == 'x', Shared: m[3][3] == 's',
				Offset: hex(t, m[4]), Device: device(t, m[5], 16), Inode: uint64(number(t, m[6])), Name: octal(m[7]),
			})
		}
		got := collect(t, task.Maps())
		if dir == fmt.Sprint(p.self) {
			// It went on after that: what it has only now is not compared.
			heap := func(m linux.Map) bool { return m.Name == "" || strings.HasPrefix(m.Name, "[anon:") }
			got, want = slices.DeleteFunc(got, heap), slices.DeleteFunc(want, heap)
		}
		if d := gocmp.Diff(want, got); d != "" || len(want) == 0 {
			t.Errorf("process %s, %d maps (-guest +read): %s", dir, len(want), d)
		}
		for i := range got {
			total++
			if got[i].Perm() != line.FindStringSubmatch(fmt.Sprintf("0-1 %s 0 0:0 0", got[i].Perm()))[3] {
				t.Errorf("permissions %q", got[i].Perm())
			}
		}
	})
	t.Logf("%d maps", total)
}

func testFiles(t *testing.T, k *linux.Kernel, p procfs) {
	total := 0
	p.eachUser(t, k, func(dir string, task linux.Task) {
		exe, err1 := task.Exe()
		root, cwd, err2 := task.Dirs()
		if err := errors.Join(err1, err2); err != nil {
			t.Error(err)
		}
		want := map[string]string{"exe": p.files[dir+"/exe"], "root": p.files[dir+"/root"], "cwd": p.files[dir+"/cwd"]}
		if d := gocmp.Diff(want, map[string]string{"exe": exe, "root": root, "cwd": cwd}); d != "" {
			t.Errorf("process %s (-guest +read): %s", dir, d)
		}
		got := make(map[string]linux.File)
		for _, f := range collect(t, task.Files()) {
			got[fmt.Sprint(f.FD)] = f
		}
		for name, target := range p.match(t, dir+"/fd/*") {
			fd := strings.TrimPrefix(name, dir+"/fd/")
			info := statusFields(p.files[dir+"/fdinfo/"+fd])
			f, ok := got[fd]
			if !ok {
				// What it read /proc with.
				if dir != fmt.Sprint(p.self) || !strings.HasPrefix(target, "/proc") {
					t.Errorf("process %s: descriptor %s (%s) is missing", dir, fd, target)
				}
				continue
			}
			delete(got, fd)
			if dir == fmt.Sprint(p.self) && strings.HasPrefix(target, "/proc/") && f.Path != target {
				continue // used again since
			}
			total++
			if f.Path != target {
				t.Errorf("process %s: descriptor %s is %q, the guest says %q", dir, fd, f.Path, target)
			}
			if len(info["flags"]) == 0 {
				t.Fatalf("process %s: fdinfo of %s is %q", dir, fd, p.files[dir+"/fdinfo/"+fd])
			}
			flags, err := strconv.ParseUint(info["flags"][0], 8, 32)
			if err != nil || uint32(flags) != f.Flags {
				t.Errorf("process %s: flags of %s (%s) are %#o, the guest says %s", dir, fd, target, f.Flags, info["flags"][0])
			}
			if pos := number(t, info["pos"][0]); pos != f.Pos && dir != fmt.Sprint(p.self) {
				t.Errorf("process %s: %s (%s) is at %d, the guest says %d", dir, fd, target, f.Pos, pos)
			}
			if ino := info["ino"]; len(ino) == 1 && uint64(number(t, ino[0])) != f.Inode { // since 5.14
				t.Errorf("process %s: inode of %s (%s) is %d, the guest says %s", dir, fd, target, f.Inode, ino[0])
			}
		}
		for fd, f := range got {
			if dir != fmt.Sprint(p.self) {
				t.Errorf("process %s: descriptor %s (%s) is not in /proc", dir, fd, f.Path)
			}
		}
	})
	t.Logf("%d files", total)
	if total < 30 {
		t.Errorf("only %d files", total)
	}
}

// endpoint parses an address of /proc/net/tcp: words of four bytes in the CPU's
// order.
func endpoint(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	addr, port, _ := strings.Cut(s, ":")
	var b []byte
	for i := 0; i < len(addr); i += 8 {
		w := hex(t, addr[i:i+8])
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		t.Fatalf("address %q", s)
	}
	return netip.AddrPortFrom(a, uint16(hex(t, port)))
}

func testSockets(t *testing.T, k *linux.Kernel, p procfs) {
	want := make(map[string]int)
	for name, s := range map[string]linux.Socket{
		"tcp": {Family: linux.FamilyInet, Type: 1, Protocol: 6}, "tcp6": {Family: linux.FamilyInet6, Type: 1, Protocol: 6},
		"udp": {Family: linux.FamilyInet, Type: 2, Protocol: 17}, "udp6": {Family: linux.FamilyInet6, Type: 2, Protocol: 17},
	} {
		for _, line := range strings.Split(strings.TrimSpace(p.files["net/"+name]), "\n")[1:] {
			f := strings.Fields(line)
			s.Local, s.Remote, s.State = endpoint(t, f[1]), endpoint(t, f[2]), linux.SocketState(hex(t, f[3]))
			s.UID, s.Inode = uint32(number(t, f[7])), uint64(number(t, f[9]))
			want[fmt.Sprintf("%+v", s)]++
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(p.files["net/unix"]), "\n")[1:] {
		f := strings.SplitN(line, " ", 2)
		var refs, proto, flags, kind, state, inode uint64
		var path string
		if n, err := fmt.Sscanf(strings.TrimSpace(f[1]), "%x %x %x %x %x %d %s", &refs, &proto, &flags, &kind, &state, &inode, &path); n < 6 {
			t.Fatalf("net/unix: %q: %v", line, err)
		}
		want[fmt.Sprintf("unix %d inode %d %q", kind, inode, path)]++
	}
	got := make(map[string]int)
	for _, s := range collect(t, k.Sockets()) {
		s.Addr, s.NetNS = 0, 0
		if s.Family == linux.FamilyUnix {
			got[fmt.Sprintf("unix %d inode %d %q", s.Type, s.Inode, s.Path)]++
			continue
		}
		got[fmt.Sprintf("%+v", s)]++
	}
	if d := gocmp.Diff(want, got); d != "" || len(want) < 12 {
		t.Errorf("%d sockets (-guest +read): %s", len(want), d)
	}
}

func testNamespaces(t *testing.T, k *linux.Kernel, p procfs) {
	n := 0
	p.eachUser(t, k, func(dir string, task linux.Task) {
		got, err := task.Namespaces()
		if err != nil {
			t.Fatal(err)
		}
		inode := func(name string) uint32 {
			_, rest, ok := strings.Cut(p.files[dir+"/ns/"+name], ":[")
			if !ok {
				return 0
			}
			n++
			return uint32(number(t, strings.TrimSuffix(rest, "]")))
		}
		want := linux.Namespaces{
			Cgroup: inode("cgroup"), IPC: inode("ipc"), Mount: inode("mnt"), Net: inode("net"), PID: inode("pid"),
			PIDForChildren: inode("pid_for_children"), Time: inode("time"), User: inode("user"), UTS: inode("uts"),
		}
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("process %s (-guest +read): %s", dir, d)
		}
	})
	if n < 20 {
		t.Errorf("the guest names %d namespaces", n)
	}
}

func testInterfaces(t *testing.T, k *linux.Kernel, p procfs) {
	var want, names, got []string
	for _, line := range strings.Split(strings.TrimSpace(p.files["net/dev"]), "\n")[2:] {
		name, _, _ := strings.Cut(line, ":")
		want = append(want, strings.TrimSpace(name))
	}
	addrs := make(map[string][]netip.Prefix)
	for line := range strings.Lines(p.files["net/if_inet6"]) {
		f := strings.Fields(line) // address, index, bits, scope, flags, name
		var b [16]byte
		for i := range b {
			b[i] = byte(hex(t, f[0][2*i:2*i+2]))
		}
		addrs[f[5]] = append(addrs[f[5]], netip.PrefixFrom(netip.AddrFrom16(b), int(hex(t, f[2]))))
	}
	for _, i := range collect(t, k.Interfaces()) {
		got = append(got, i.Name)
		if i.Name == "lo" {
			names = append(names, "lo")
			addrs["lo"] = append([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}, addrs["lo"]...)
			if i.Index != 1 || i.MTU != 65536 || i.Flags&9 != 9 {
				t.Errorf("%+v", i)
			}
		}
		if d := gocmp.Diff(addrs[i.Name], i.Addrs, gocmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
			t.Errorf("addresses of %s (-guest +read): %s", i.Name, d)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := gocmp.Diff(want, got); d != "" || len(names) != 1 {
		t.Errorf("interfaces (-guest +read): %s", d)
	}
}

func testProbes(t *testing.T, k *linux.Kernel, p procfs) {
	// What the workload has loaded says so in its fdinfo.
	want := make(map[string]int)
	for name, text := range p.match(t, "*/fdinfo/*") {
		info := statusFields(text)
		if len(info["prog_id"]) == 1 {
			want[fmt.Sprint(info["prog_id"], info["prog_type"], info["prog_tag"])]++
			t.Logf("%s has BPF program %v", name, info["prog_id"])
		}
	}
	if len(want) != 1 {
		t.Fatalf("the guest has BPF programs %v", want)
	}
	for _, b := range collect(t, k.BPFPrograms()) {
		if b.Name == "hold_bpf" {
			want[fmt.Sprintf("[%d] [%d] [%s]", b.ID, b.Type, b.Tag)]--
		}
	}
	for what, n := range want {
		if n != 0 {
			t.Errorf("BPF program %s: %d more in /proc", what, n)
		}
	}
	var probes, got []string
	for line := range strings.Lines(p.files["kprobes"]) {
		f := strings.Fields(line) // address, kind, symbol+offset, flags
		probes = append(probes, fmt.Sprintf("%s %s %t", f[0], f[2], strings.Contains(line, "[DISABLED]")))
	}
	for _, q := range collect(t, k.KProbes()) {
		got = append(got, fmt.Sprintf("%016x %s+%#x %t", uint64(q.Addr), q.Symbol, q.Offset, q.Disabled))
	}
	slices.Sort(probes)
	slices.Sort(got)
	if d := gocmp.Diff(probes, got); d != "" || len(probes) != 2 {
		t.Errorf("kprobes (-guest +read): %s", d)
	}
}
