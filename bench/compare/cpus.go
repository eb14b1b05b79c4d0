package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// readCPUs reads -cpus. None are returned where nothing is to be pinned.
func readCPUs(text string) ([]int, error) {
	if text == "all" {
		return nil, nil
	}
	allowed, err := allowedCPUs()
	if err != nil {
		return nil, err
	}
	if text == "" {
		return allowed[max(len(allowed)-1, 0):], nil
	}
	var cpus []int
	for word := range strings.SplitSeq(text, ",") {
		cpu, err := strconv.Atoi(word)
		if err != nil || !slices.Contains(allowed, cpu) || slices.Contains(cpus, cpu) {
			return nil, fmt.Errorf("-cpus %s: %q is not one of %v, or is there twice; want numbers with commas, or all", text, word, allowed)
		}
		cpus = append(cpus, cpu)
	}
	return cpus, nil
}
