package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// ErrNoModule reports that the working folder is not inside govmi's source, which the lab builds its programs from.
var ErrNoModule = errors.New("lab: not inside the source of govmi")

var moduleLine = regexp.MustCompile(`(?m)^module github\.com/govmi/govmi$`)

// moduleRoot finds the module's root at or above the working folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && moduleLine.Match(b) {
			return dir, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", ErrNoModule
		}
		dir = up
	}
}

// buildPrograms builds the agent, the workload and the programs of more packages of this module into dir, and returns them by name. nil
// patterns stand for the examples.
func buildPrograms(ctx context.Context, dir string, patterns []string) (map[string]string, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	if patterns == nil {
		if _, err := os.Stat(filepath.Join(root, "examples")); err == nil {
			patterns = []string{"./examples/..."}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", dir + string(filepath.Separator), "./internal/lab/cmd/agent", "./internal/lab/cmd/workload"}
	cmd := exec.CommandContext(ctx, "go", append(args, patterns...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("lab: build dom0's programs: %w: %s", err, bytes.TrimSpace(out))
	}
	des, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	bins := map[string]string{}
	for _, de := range des {
		bins[de.Name()] = filepath.Join(dir, de.Name())
	}
	return bins, nil
}
