//go:build !linux

package main

import (
	"errors"
	"os"

	"github.com/govmi/govmi/internal/lab"
)

type terminal struct{}

func openTerminal(*os.File) (*terminal, error) { return nil, errors.ErrUnsupported }

func (*terminal) size() (rows, cols uint16) { return 24, 80 }

func (*terminal) raw(chan<- lab.Control) (func() error, error) { return nil, errors.ErrUnsupported }
