//go:build !(linux && amd64)

package device

import "io"

// Kernel has no devices here.
type Kernel struct{}

var _ Opener = Kernel{}

// Open returns [ErrPlatform].
func (Kernel) Open(Kind) (File, error) { return nil, ErrPlatform }

// Lock returns [ErrPlatform].
func (Kernel) Lock(string) (io.Closer, error) { return nil, ErrPlatform }

// XenStore returns [ErrPlatform].
func (Kernel) XenStore() (io.ReadWriteCloser, error) { return nil, ErrPlatform }
