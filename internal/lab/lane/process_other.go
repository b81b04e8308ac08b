//go:build !linux

package lane

import (
	"errors"
	"fmt"
)

type process struct {
	pid    int
	exited chan struct{}
	err    error
}

func startProcess([]string, string, string) (*process, error) {
	return nil, fmt.Errorf("lane: the lab runs on Linux only: %w", errors.ErrUnsupported)
}

func (p *process) kill() error { return nil }
