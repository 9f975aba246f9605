"""OpenAI's chat API in front of any endpoint: of several candidates for each turn the reward model chooses."""
