"""The forecasters `dqn` and `ppo`: reinforcement learning over stored hours, fitted by a library, acting by numpy."""
