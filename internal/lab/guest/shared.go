package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
)

// Shared returns a guest of that specification, whose name is a prefix only:
// one that an earlier caller, perhaps in another process, has started and that
// still answers, or a new one. Nobody destroys it; users leave it as they found
// it.
func Shared(ctx context.Context, spec Spec) (*Guest, error) {
	text, err := json.Marshal(spec.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	h := fnv.New32a()
	if _, err := h.Write(text); err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	spec.Name = fmt.Sprintf("%s-%08x", spec.Name, h.Sum32())
	state := filepath.Join(stateDir, spec.Name)
	if g, err := reopen(ctx, spec, state); err != nil || g != nil {
		return g, err
	}
	g, err := Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("guest: %w", err), g.Destroy(ctx))
	}
	if err := os.WriteFile(state, fmt.Append(nil, g.id), 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("guest: %w", err), g.Destroy(ctx))
	}
	return g, nil
}

// reopen returns nil without an error if there is no such guest.
func reopen(ctx context.Context, spec Spec, state string) (*Guest, error) {
	id, err := os.ReadFile(state)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	g, err := open(ctx, spec)
	if errors.Is(err, ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The number tells a finished start from one that was cut short.
	if fmt.Sprint(g.id) == string(id) {
		if _, status, err := g.Exec(ctx, "true"); err == nil && status == 0 {
			return g, nil
		}
	}
	return nil, g.Destroy(ctx)
}
