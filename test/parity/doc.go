// Package parity measures the native engine against an independent one: see test/oracle/README.md. Its tests need the program that test/oracle/build.sh makes, named in MAAS_ORACLE.
package parity
