package vmi

import "errors"

// Pauser is a guest that can be made to stand still. [xen.Domain] is one.
type Pauser interface {
	Pause() error
	Unpause() error
}

// Consistent calls f while the guest stands still, so that all that f reads is of one
// moment. Frames are mapped anew for it: the guest may have given some away since.
// The guest goes on afterwards, also if f panics, unless it has been paused by somebody
// else as well. It stays paused if the program is killed meanwhile.
func (m *Memory) Consistent(g Pauser, f func() error) (err error) {
	if err := g.Pause(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Unpause()) }()
	if err := m.Invalidate(); err != nil {
		return err
	}
	return f()
}
