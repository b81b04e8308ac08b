package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pty runs a shell on a terminal of its own, of which the kernel translates
// nothing, and types commands. It prints "pty ready pid=P" with the shell's
// pid and, when the shell has ended, "pty typed=N sha256=HEX printed=N
// sha256=HEX": what it wrote to the terminal and what it read from it.
func pty(args []string) error {
	fs := flag.NewFlagSet("pty", flag.ContinueOnError)
	wait := fs.String("wait", "", "before the first command, wait for this file")
	if err := fs.Parse(args); err != nil {
		return err
	}
	lines := fs.Args()
	if err := os.MkdirAll("/dev/pts", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666"); err != nil && err != unix.EBUSY {
		return fmt.Errorf("devpts: %w", err)
	}
	master, err := os.OpenFile("/dev/pts/ptmx", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer master.Close()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("number: %w", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := raw(int(slave.Fd())); err != nil {
		return err
	}
	cmd := exec.Command("bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(os.Environ(), "PS1=$ ", "TERM=dumb")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := slave.Close(); err != nil {
		return err
	}
	s := &screen{}
	read := make(chan struct{})
	go func() { s.read(master); close(read) }()
	fmt.Printf("pty ready pid=%d\n", cmd.Process.Pid)
	// The shell has printed its prompt before anything is counted.
	if err := s.until(func(b []byte) bool { return bytes.HasSuffix(b, []byte("$ ")) }); err != nil {
		return err
	}
	if err := waitFor(*wait); err != nil {
		return err
	}
	s.reset()
	typed := sha256.New()
	total := 0
	for _, line := range lines {
		line += "\r"
		typed.Write([]byte(line))
		total += len(line)
		before := s.prompts()
		if _, err := master.WriteString(line); err != nil {
			return err
		}
		if strings.HasPrefix(line, "exit") {
			break
		}
		if err := s.until(func(b []byte) bool { return bytes.HasSuffix(b, []byte("$ ")) && s.prompts() > before }); err != nil {
			return err
		}
	}
	werr := cmd.Wait()
	<-read
	printed := s.bytes()
	fmt.Printf("pty typed=%d sha256=%x printed=%d sha256=%x\n", total, typed.Sum(nil), len(printed), sha256.Sum256(printed))
	return werr
}

// raw has the terminal pass on everything as it is.
func raw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Oflag &^= unix.OPOST
	t.Iflag &^= unix.ICRNL | unix.INLCR | unix.IGNCR | unix.IXON
	t.Lflag &^= unix.ECHO | unix.ECHONL
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// screen keeps what was read of a terminal.
type screen struct {
	mu sync.Mutex
	b  []byte
}

func (s *screen) read(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		s.mu.Lock()
		s.b = append(s.b, buf[:n]...)
		s.mu.Unlock()
		if err != nil {
			return // EIO: nobody has the other end open
		}
	}
}

func (s *screen) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b)
}

func (s *screen) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = nil
}

const ptyPatience = time.Minute

// prompts counts those that came after a newline.
func (s *screen) prompts() int { return bytes.Count(s.bytes(), []byte("\n$ ")) }

func (s *screen) until(good func(b []byte) bool) error {
	for end := time.Now().Add(ptyPatience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if good(s.bytes()) {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("no prompt after %v", ptyPatience), fmt.Errorf("%q", s.bytes()))
}
