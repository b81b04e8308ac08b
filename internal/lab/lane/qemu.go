package lane

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Why each feature is missing: with SMAP dom0 dies in IRET, MWAIT faults in Xen's idle loop, RDTSCP intercepts confuse Xen's check of the
// instruction length, and AVX state is lost when a guest's vCPU changes its CPU.
const qemuCPU = "EPYC,-smap,-smep,-monitor,-rdtscp,-avx,-avx2,-fma,-f16c,-xsave"

// qemu returns the emulator's command line.
func qemu(s *Spec, t *tools, control string) ([]string, error) {
	xen := filepath.Join(s.Dir, "xen")
	if err := gunzip(xen, s.Xen); err != nil { // QEMU's multiboot loader wants an ELF file
		return nil, err
	}
	args := []string{
		t.emulator, "-nodefaults", "-nographic", "-no-reboot", "-accel", "tcg,thread=multi", "-cpu", qemuCPU,
		"-smp", strconv.Itoa(s.CPUs), "-m", strconv.Itoa(s.MemoryMiB),
		"-chardev", "file,id=console,path=" + comma(ConsoleFile(s.Dir)), "-serial", "chardev:console",
		"-chardev", "socket,id=control,server=off,nodelay=on," + hostPort(control), "-serial", "chardev:control",
	}
	for _, dir := range []string{"/usr/share/qemu", "/usr/share/seabios"} {
		path, err := t.tree.Path(dir)
		if err != nil {
			return nil, err
		}
		args = append(args, "-L", path)
	}
	for i, index := range []int{0, 1, 2} {
		if s.Disks[i] != "" {
			args = append(args, "-drive", fmt.Sprintf("file=%s,format=raw,if=ide,index=%d,cache=writeback", comma(s.Disks[i]), index))
		}
	}
	modules := append([]string{s.Initrd}, s.Modules...)
	for _, p := range append([]string{s.Kernel}, modules...) {
		if strings.ContainsAny(p, " ,") {
			return nil, fmt.Errorf("%s: QEMU takes no blank and no comma in the path of a boot module", p)
		}
	}
	return append(args, "-kernel", xen, "-append", strings.Join(s.xenArgs(), " "),
		"-initrd", s.Kernel+" "+strings.Join(s.kernelArgs(), " ")+","+strings.Join(modules, ",")), nil
}

// comma doubles commas, as QEMU's option syntax asks for.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func hostPort(addr string) string {
	host, port, _ := strings.Cut(addr, ":")
	return "host=" + host + ",port=" + port
}

// gunzip expands src to dst; a file that is not compressed is copied.
func gunzip(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	buf := bufio.NewReader(in)
	var r io.Reader = buf
	if magic, _ := buf.Peek(2); string(magic) == "\x1f\x8b" { // a file too short has another problem
		if r, err = gzip.NewReader(buf); err != nil {
			return fmt.Errorf("%s: %w", src, err)
		}
	}
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, r); err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	return nil
}
