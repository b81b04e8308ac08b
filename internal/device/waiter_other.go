//go:build !linux

package device

import "time"

// Waiter does not exist here.
type Waiter struct{}

// NewWaiter returns [ErrPlatform].
func NewWaiter(File) (*Waiter, error) { return nil, ErrPlatform }

// Wait returns [ErrPlatform].
func (*Waiter) Wait(time.Duration) (ready, woken bool, err error) { return false, false, ErrPlatform }

// Wake does nothing.
func (*Waiter) Wake() {}

// Reset does nothing.
func (*Waiter) Reset() {}

// Close does nothing.
func (*Waiter) Close() error { return nil }
