"""The tests of the conformance kit, one file for each subject."""
