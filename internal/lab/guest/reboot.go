package guest

import (
	"context"
	"errors"
	"fmt"
)

// Reboot has a guest with [Spec.Restarts] reboot at once, whatever its processes do,
// and returns the one that the toolstack makes in its place, with another number,
// when it takes commands. The caller destroys it.
func (g *Guest) Reboot(ctx context.Context) (*Guest, error) {
	if !g.spec.Restarts {
		return nil, fmt.Errorf("%w: %s is not made anew when it reboots", ErrSpec, g.spec.Name)
	}
	end, err := g.console.end()
	if err != nil {
		return nil, err
	}
	g.input.Lock()
	err = g.send("reboot b echo b >/proc/sysrq-trigger")
	g.input.Unlock()
	if err != nil {
		return nil, err
	}
	for {
		next, err := open(ctx, g.spec)
		switch {
		case err == nil && next.id != g.id:
			if _, err := next.console.waitFrom(ctx, end, readyLine); err != nil {
				return nil, errors.Join(fmt.Errorf("guest: %s does not come up again: %w", g.spec.Name, err), next.Destroy(context.WithoutCancel(ctx)))
			}
			return next, nil
		case err != nil && !errors.Is(err, ErrGone): // between the old and the new one
			return nil, err
		}
		if err := sleep(ctx, slowPoll); err != nil {
			return nil, fmt.Errorf("guest: %s is not made anew: %w", g.spec.Name, err)
		}
	}
}
