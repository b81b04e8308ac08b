package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ps prints one line "ps pid=P ppid=Q threads=T mm=M comm=NAME" for each process;
// the comm comes last because it may hold spaces. M is user, or kernel for a
// kernel thread.
func ps([]string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has just ended
		}
		field := map[string]string{}
		for line := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(line, ":")
			field[name] = strings.TrimSpace(value)
		}
		mm := "kernel"
		if field["VmSize"] != "" {
			mm = "user"
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			continue
		}
		fmt.Fprintf(&out, "ps pid=%d ppid=%s threads=%s mm=%s comm=%s", pid, field["PPid"], field["Threads"], mm, comm)
	}
	_, err = os.Stdout.WriteString(out.String())
	return err
}
