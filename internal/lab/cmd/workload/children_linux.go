package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// holdChildren starts processes in the states that a process can be in: asleep
// as another user with a session and an environment of its own, in namespaces of its
// own, stopped under a name with spaces and parentheses, and a zombie.
func holdChildren() (release func(), err error) {
	var children []*exec.Cmd
	release = func() {
		for _, c := range children {
			_ = c.Process.Kill() // one has ended
			_ = c.Wait()
		}
	}
	start := func(c *exec.Cmd, state string) error {
		if err := c.Start(); err != nil {
			return err
		}
		children = append(children, c)
		return waitState(c.Process.Pid, state)
	}
	user := exec.Command("/bin/busybox", "sleep", "1000")
	user.Env = []string{"A=1 2", "B=", "LONG=" + strings.Repeat("x", 5000)}
	user.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: 65534, Gid: 100}}
	apart := exec.Command("/bin/busybox", "sleep", "1000")
	apart.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET |
		syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER | syscall.CLONE_NEWCGROUP}
	stopped := exec.Command("/bin/bash", "-c", `printf "a (b) c" >/proc/$$/comm; kill -STOP $$`, "", "an argument\n")
	zombie := exec.Command("/bin/busybox", "true")
	if err := errors.Join(start(user, "S"), start(apart, "S"), start(stopped, "T"), start(zombie, "Z")); err != nil {
		release()
		return nil, fmt.Errorf("hold processes: %w", err)
	}
	return release, nil
}

// waitState waits until a process is in a state of proc_pid_stat(5).
func waitState(pid int, state string) error {
	for range 1000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		if strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " "+state) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("process %d is not in state %s", pid, state)
}
