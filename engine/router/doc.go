// Package router answers the question "which route?".
package router
