// Package dialect holds the wire shapes of the APIs that the platform speaks, and their translation. No I/O.
//
// Request structs are read with [Decode]: keys match exactly, unknown ones are passed over, and a value of the wrong type is an error that names its path.
package dialect
