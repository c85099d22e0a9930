"""What a generation batch is made of: its rows, their images, the responses, and the micro-batches they train in."""
