// Package network is the network of a data plane.
package network
