"""All that is to be measured on an accelerator, in calls of limited time that go on where the last one stopped."""
