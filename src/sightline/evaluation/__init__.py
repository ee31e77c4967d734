"""What both the audit and GAD measure with: pixels chosen by a map, occlusion, intervals and paired tests."""
