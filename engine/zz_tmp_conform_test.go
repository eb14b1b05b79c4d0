package engine_test

import (
	"log/slog"
	"os"
)

func init() { discardLog = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})) }
