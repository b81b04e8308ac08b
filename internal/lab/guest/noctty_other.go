//go:build !unix

package guest

const noCTTY = 0
