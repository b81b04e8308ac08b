//go:build unix

package guest

import "syscall"

const noCTTY = syscall.O_NOCTTY
